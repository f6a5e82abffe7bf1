"""The routes. Each endpoint is an ASGI application of its own; every error leaves in the shape of the OpenAI API."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from starlette.types import Message, Receive, Scope, Send

from gateway.enforcement import Answer, failure_answer, upstream_error
from gateway.errors import GatewayError, NotFoundError, RequestError
from gateway.http.auth import Authenticator
from gateway.http.transport import ClientGoneError, UntilDisconnect, header, read_body, send_answer
from gateway.pipeline import Pipeline
from gateway.ports import Call
from gateway.telemetry import logger
from gateway.upstream.base import Upstream
from gateway.wire.chat import parse_request
from gateway.wire.reply import parse_object

SUBJECT_HEADER: Final = b"x-so8t-subject"
MAX_SUBJECT: Final = 512


class MethodError(RequestError):
    """The route exists, for another method."""

    status = 405
    code = "method_not_allowed"


class Health(Protocol):
    """What readiness depends on."""

    def problems(self) -> Mapping[str, str]:
        """Return what keeps the gateway from serving, by component; empty when it is ready."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What the endpoints use."""

    pipeline: Pipeline
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
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", self._chat),
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
            await send_answer(failure_answer(error), send)

    def _find(self, scope: Scope) -> Handler:
        path: str = scope["path"]
        found = self._routes.get(path)
        if found is None:
            known = ", ".join(f"{method} {route}" for route, (method, _) in self._routes.items())
            raise NotFoundError(f"no such route; these exist: {known}")
        method, handler = found
        if scope["method"] != method and (method, scope["method"]) != ("GET", "HEAD"):
            raise MethodError(f"{path} takes {method} only")
        return handler

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        principal = await services.authenticator.principal(scope)
        data = await read_body(scope, receive, limit=services.body_limit, timeout_s=services.body_timeout_s)
        request = parse_request(data)
        subject = header(scope, SUBJECT_HEADER) or request.subject
        if subject is not None and len(subject) > MAX_SUBJECT:
            raise RequestError(f"the data subject is longer than {MAX_SUBJECT} characters")
        async with UntilDisconnect(receive):
            answer = await services.pipeline.govern(Call(principal, request, scope["path"], subject))
            await send_answer(answer, send)

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
        problems = self._services.health.problems()
        status: dict[str, Any] = {"status": "not ready", "problems": problems} if problems else {"status": "ready"}
        await send_answer(Answer(503 if problems else 200, orjson.dumps(status)), send)
