"""The routes. Each endpoint is an ASGI application of its own; every error leaves in the shape of its route's API."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import orjson
from starlette.types import Message, Receive, Scope, Send

from gateway.enforcement import Answer, failure_answer, upstream_error
from gateway.errors import CaseGone, CaseNotFound, GatewayError, NotFoundError, RequestError
from gateway.escalation.case import Case
from gateway.escalation.cases import Cases
from gateway.http.auth import Authenticator
from gateway.http.background import Background
from gateway.http.transport import ClientGoneError, UntilDisconnect, header, read_body, send_answer
from gateway.pipeline import Pipeline
from gateway.ports import Call
from gateway.principal import Principal
from gateway.telemetry import logger
from gateway.told import CASES, case_headers, case_object
from gateway.upstream.base import Upstream
from gateway.upstream.http import VERSION
from gateway.wire.format import WireFormat
from gateway.wire.reply import parse_object
from gateway.wire.routes import CHAT, FORMATS, MESSAGES

SUBJECT_HEADER: Final = b"x-so8t-subject"
MAX_SUBJECT: Final = 512
MAX_IDEMPOTENCY_KEY: Final = 255
MAX_WAIT_S: Final = 600
"""Longest ``Prefer: wait``."""
MAX_POLL_S: Final = 30
"""Longest ``wait`` of a look at a case."""
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_RESPONSE: Final = re.compile(r"/v1/responses/([A-Za-z0-9_-]{1,64})(/cancel)?")
_VERSION: Final = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_CASE: Final = re.compile(CASES + r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(/resume)?")


class MethodError(RequestError):
    """The route exists, for another method."""

    status = 405
    code = "method_not_allowed"


class Health(Protocol):
    """What readiness depends on."""

    def problems(self) -> Mapping[str, str]:
        """Return what keeps the gateway from serving, by component; empty when it is ready."""
        ...

    def warnings(self) -> Mapping[str, str]:
        """Return what does not, but somebody should look at."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What the endpoints use."""

    pipeline: Pipeline
    cases: Cases
    upstream: Upstream
    authenticator: Authenticator
    health: Health
    body_limit: int
    body_timeout_s: float


Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class Api:
    """The gateway's HTTP interface as one ASGI application."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._background = Background(services.pipeline.govern)
        self._routes: dict[str, tuple[str, Handler]] = {
            **{route: ("POST", partial(self._govern, wire)) for route, wire in FORMATS.items()},
            "/v1/models": ("GET", self._models),
            "/healthz": ("GET", self._alive),
            "/readyz": ("GET", self._ready),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._find(scope)(scope, receive, sending)
        except ClientGoneError:
            return
        except Exception as error:
            if not isinstance(error, GatewayError):
                logger.exception("a request failed")
            if started:
                raise
            await send_answer(failure_answer(error, wire=_format(scope["path"])), send)

    def _find(self, scope: Scope) -> Handler:
        path: str = scope["path"]
        found = self._routes.get(path) or self._find_case(path) or self._find_response(path)
        if found is None:
            routes = [f"{method} {route}" for route, (method, _) in self._routes.items()]
            routes += [f"GET {CASES}/{{id}}", f"POST {CASES}/{{id}}/resume"]
            known = ", ".join([*routes, "GET /v1/responses/{id}", "POST /v1/responses/{id}/cancel"])
            raise NotFoundError(f"no such route; these exist: {known}")
        method, handler = found
        if scope["method"] != method and (method, scope["method"]) != ("GET", "HEAD"):
            raise MethodError(f"{path} takes {method} only")
        return handler

    def _find_case(self, path: str) -> tuple[str, Handler] | None:
        found = _CASE.fullmatch(path)
        if found is None:
            return None
        return ("POST", partial(self._resume, found[1])) if found[2] else ("GET", partial(self._case, found[1]))

    def _find_response(self, path: str) -> tuple[str, Handler] | None:
        found = _RESPONSE.fullmatch(path)
        if found is None:
            return None
        act = self._background.cancel if found[2] else self._background.fetch
        return "POST" if found[2] else "GET", partial(self._response, act, found[1])

    async def close(self) -> None:
        """Break off what runs in the background."""
        await self._background.close()

    async def _govern(self, wire: WireFormat, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        principal = await services.authenticator.principal(scope)
        data = await read_body(scope, receive, limit=services.body_limit, timeout_s=services.body_timeout_s)
        request = wire.parse_request(data)
        subject = header(scope, SUBJECT_HEADER) or request.subject
        if subject is not None and len(subject) > MAX_SUBJECT:
            raise RequestError(f"the data subject is longer than {MAX_SUBJECT} characters")
        key = header(scope, b"idempotency-key")
        if key is not None and len(key) > MAX_IDEMPOTENCY_KEY:
            raise RequestError(f"the Idempotency-Key is longer than {MAX_IDEMPOTENCY_KEY} characters")
        wait_s, version = _preferred_wait_s(scope), _version(scope) if wire is MESSAGES else None
        call = Call(principal, request, scope["path"], subject, key, wait_s, wire, version)
        if request.background:
            await send_answer(self._background.start(call), send)
            return
        async with UntilDisconnect(receive):
            await send_answer(await services.pipeline.govern(call), send)

    async def _response(
        self,
        act: Callable[[Principal, str], Answer],
        response_id: str,
        scope: Scope,
        _receive: Receive,
        send: Send,
    ) -> None:
        """Tell a client how its background response stands."""
        principal = await self._services.authenticator.principal(scope)
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if asked.get("stream", ["false"]) != ["false"]:
            raise RequestError("a background response cannot be streamed: leave `stream` out")
        await send_answer(act(principal, response_id), send)

    async def _case(self, case_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell a client how its case stands; one that others must see to, after up to ``wait`` seconds."""
        case = await self._own(await self._services.authenticator.principal(scope), case_id)
        wait_s = _polled_wait_s(scope)
        async with UntilDisconnect(receive):
            if case.status in ("pending", "consumed") and wait_s:
                case = await self._services.cases.changed(case, wait_s)
            await send_answer(Answer(200, orjson.dumps(case_object(case)), case_headers(case, case.status)), send)

    async def _resume(self, case_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Do with the stored request what sending it again would."""
        services = self._services
        principal = await services.authenticator.principal(scope)
        await read_body(scope, receive, limit=services.body_limit, timeout_s=services.body_timeout_s)
        case = await self._own(principal, case_id)
        stored = await services.cases.payload(case, "request")
        if stored is None:
            raise CaseGone("the request of this case is erased")
        wire = FORMATS[case.endpoint]
        request = wire.parse_request(stored)
        call = Call(principal, request, case.endpoint, request.subject, wait_s=_preferred_wait_s(scope), format=wire)
        async with UntilDisconnect(receive):
            await send_answer(await services.pipeline.resume(call, case), send)

    async def _own(self, principal: Principal, case_id: str) -> Case:
        """Return the caller's own case; anybody else's does not exist."""
        case = await self._services.cases.get(case_id)
        if case is None or (case.organization, case.owner) != (principal.organization, principal.owner):
            raise CaseNotFound(f"there is no case `{case_id}`")
        return case

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._services.authenticator.principal(scope)
        async with UntilDisconnect(receive):
            inbound = await self._services.upstream.models()
            try:
                body = await inbound.read()
            finally:
                await inbound.close()
            if 200 <= inbound.status < 300:
                parse_object(body)
                answer = Answer(200, body)
            else:
                answer = upstream_error(inbound.status, body, inbound.retry_after, ())
            await send_answer(answer, send)

    async def _alive(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send_answer(Answer(200, b'{"status":"ok"}'), send)

    async def _ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        health = self._services.health
        problems, warnings = health.problems(), health.warnings()
        status: dict[str, Any] = {"status": "not ready", "problems": problems} if problems else {"status": "ready"}
        if warnings:
            status["warnings"] = warnings
        await send_answer(Answer(503 if problems else 200, orjson.dumps(status)), send)


def _format(path: str) -> WireFormat:
    """Return the format in whose shape errors of a route are told; what is below ``/v1/messages`` is of its kind."""
    return FORMATS.get(path) or (MESSAGES if path.startswith("/v1/messages/") else CHAT)


def _version(scope: Scope) -> str | None:
    """Return the version of the Messages API that the caller names, if it is a plain date and not the usual one."""
    written = header(scope, b"anthropic-version") or ""
    return written if written != VERSION and _VERSION.fullmatch(written) else None


def _preferred_wait_s(scope: Scope) -> float | None:
    """Return how long the caller would wait for people on an open connection (RFC 7240), None if it does not say."""
    written = ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == b"prefer")
    found = _WAIT.search(written)
    return None if found is None else float(min(int(found[1]), MAX_WAIT_S))


def _polled_wait_s(scope: Scope) -> int:
    written = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("wait", ["0"])
    if len(written) != 1 or not written[0].isascii() or not written[0].isdigit():
        raise RequestError(f"`wait` is a number of seconds, at most {MAX_POLL_S}")
    return min(int(written[0][:9]), MAX_POLL_S)
