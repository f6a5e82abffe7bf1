"""Receivers of notices: a real mail server and a real HTTP server on loopback, in the test's own loop."""

import asyncio
import ssl
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from gateway.settings import SmtpSettings


@dataclass
class MailSink:
    """Takes mail. ``answer`` gives the reply to RCPT, ``final`` that to the data; both by the recipient."""

    answer: Callable[[str], str] = lambda _: "250 OK"
    final: Callable[[str], str] = lambda _: "250 OK"
    tls: ssl.SSLContext | None = None
    password: str | None = None
    hang: bool = False
    mails: list[EmailMessage] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.answer(address)
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.hang:
            await asyncio.sleep(3600)
        reply = self.final(envelope.rcpt_tos[0])
        if reply.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(message_from_bytes(envelope.content, _class=EmailMessage, policy=policy.default))
            self.encrypted.append(session.ssl is not None)
        return reply

    def _authenticate(self, _: SMTP, __: Session, ___: Envelope, ____: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and data.password == (self.password or "").encode()
        return AuthResult(success=right, handled=right)

    def _protocol(self) -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a login without TLS is unwise is what is tested
            return SMTP(
                self,
                hostname="sink",
                ident="sink",
                tls_context=self.tls,
                auth_require_tls=False,
                auth_required=self.password is not None,
                authenticator=self._authenticate if self.password is not None else None,
                loop=asyncio.get_running_loop(),
            )

    def settings(self, **values: Any) -> SmtpSettings:
        return replace(SmtpSettings("127.0.0.1", self.port, "so8t@example.org"), **values)

    async def __aenter__(self) -> Self:
        self._sessions: list[SMTP] = []

        def protocol() -> SMTP:
            self._sessions.append(self._protocol())
            return self._sessions[-1]

        self._server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            task = getattr(session, "_handler_coroutine", None)
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Hit:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpSink:
    """Takes POSTs. ``answer`` gives status and headers, or None to hang, by the number of the hit on its path."""

    answer: Callable[[Hit, int], tuple[int, dict[str, str]] | None] = lambda *_: (200, {})
    hits: list[Hit] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    port: int = 0

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        hit = Hit(request.path, headers, await request.read())
        self.hits.append(hit)
        self.counts[hit.path] += 1
        answer = self.answer(hit, self.counts[hit.path])
        if answer is None:
            await asyncio.sleep(3600)
            raise AssertionError
        return web.Response(status=answer[0], headers=answer[1], text="ok")

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
