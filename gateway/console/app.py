"""The console as one ASGI application: its routes, and the rules that hold for every page."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.console.desk import COOKIE, Desk, Page, PageError, Problems, Visit, check_origin, check_token, read_form
from gateway.console.pages import case, queue, sign_in
from gateway.console.texts import Say, word
from gateway.console.throttle import Throttle
from gateway.errors import AuditUnavailable, CaseNotFound, CaseStateError, GatewayError, NotReviewerError, RequestError
from gateway.escalation.cases import Cases
from gateway.escalation.outbox import Problem
from gateway.store.sessions import Sessions
from gateway.store.users import Users, now_ms
from gateway.telemetry import logger

Endpoint = Callable[[Request], Awaitable[Response]]

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer. A referrer policy stricter than ``same-origin`` would make browsers hide the Origin of our forms."""


def create_console(
    cases: Cases,
    users: Users,
    sessions: Sessions,
    *,
    console_url: str | None = None,
    problems: Problems | None = None,
    throttle: Throttle | None = None,
    clock: Callable[[], int] = now_ms,
) -> Starlette:
    """Return the console, to be mounted under any path.

    ``console_url`` is where people reach it when a proxy is in front; ``problems`` are shown on every page.
    """
    desk = Desk(cases, users, sessions, console_url, problems or _no_problems, clock, throttle or Throttle())
    style = files("gateway.console").joinpath("static/console.css").read_text(encoding="utf-8")

    async def css(_request: Request) -> Response:
        return Response(style, media_type="text/css")

    def anybody(page: Page) -> Endpoint:
        return partial(_answer, desk, page, False)

    def signed_in(page: Page) -> Endpoint:
        return partial(_answer, desk, page, True)

    return Starlette(
        routes=[
            Route("/", signed_in(queue.show), methods=["GET"]),
            Route("/sign-in", anybody(sign_in.show), methods=["GET"]),
            Route("/sign-in", anybody(sign_in.enter), methods=["POST"]),
            Route("/sign-out", signed_in(sign_in.leave), methods=["POST"]),
            Route("/cases/{case:uuid}", signed_in(case.show), methods=["GET"]),
            Route("/cases/{case:uuid}/{kind}", signed_in(case.rule), methods=["POST"]),
            Route("/static/console.css", css, methods=["GET"]),
            Route("/{path:path}", anybody(_nowhere), methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        middleware=[Middleware(_Guarded)],
    )


def _no_problems(organization: str | None = None) -> Sequence[Problem]:
    return ()


class _Guarded:
    """Puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, sending)


async def _answer(desk: Desk, page: Page, signed_in: bool, request: Request) -> Response:
    """Answer one request: whatever changes something comes from our own form, in the session that it was made for."""
    visit = Visit(desk, request, None)
    try:
        session = await desk.sessions.find(request.cookies.get(COOKIE, ""))
        visit = Visit(desk, request, session)
        if request.method not in ("GET", "HEAD"):
            check_origin(request, desk.origin)
            visit = Visit(desk, request, session, await read_form(request))
            if session is not None and signed_in:
                check_token(session, visit.form)
        if session is None and signed_in:
            return visit.sign_in()
        return await page(visit)
    except GatewayError as error:
        status = error.status if isinstance(error, RequestError) else 503
        return visit.page("message.html", status, told=tell(visit.say, error))
    except Exception:  # noqa: BLE001 - it is logged, and the visitor is told
        logger.exception("a page of the console failed")
        return visit.page("message.html", 500, told=visit.say("error.internal"))


async def _nowhere(_visit: Visit) -> Response:
    raise PageError(404, "error.not-found")


def tell(say: Say, error: GatewayError) -> str:
    """Return what an error says to the person at the page."""
    match error:
        case PageError():
            return say(error.key, **error.values)
        case CaseNotFound():
            return say("error.not-found")
        case CaseStateError():
            return say("error.state", status=word(say, "status", error.case_status))
        case NotReviewerError():
            return say("error.refused", reason=word(say, "ground", error.ground))
        case AuditUnavailable():
            return say("error.unavailable")
        case RequestError():
            return error.message
        case _:
            return say("error.internal")
