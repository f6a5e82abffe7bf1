"""Reading a request and sending an answer, under limits, until the client hangs up."""

import asyncio
from contextlib import aclosing
from typing import Final

from starlette.types import Receive, Scope, Send

from gateway.enforcement import Answer
from gateway.errors import RequestError, TooLargeError

TOO_LATE: Final = "request_timeout"


class SlowRequestError(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = TOO_LATE


class UnsupportedEncodingError(RequestError):
    """The body is compressed, or not JSON."""

    status = 415
    code = "unsupported_media_type"


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of the header ``name`` (lower case), None if there is none or more than one."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else None


async def read_body(scope: Scope, receive: Receive, *, limit: int, timeout_s: float) -> bytes:
    """Return the whole body, counted while it is read and not as the client announces it."""
    for key, value in scope["headers"]:
        if key == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedEncodingError("send the body uncompressed, without Content-Encoding")
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece = message.get("body", b"")
                size += len(piece)
                if size > limit:
                    raise TooLargeError(f"the body is longer than {limit} bytes")
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces) if len(pieces) > 1 else piece
    except TimeoutError:
        raise SlowRequestError(f"the body did not arrive within {timeout_s:g} s") from None


async def send_answer(answer: Answer, send: Send) -> None:
    """Send ``answer``; a stream is closed whatever happens."""
    headers = [(b"content-type", answer.media_type), *answer.headers]
    if isinstance(answer.body, bytes):
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        return
    headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    async with aclosing(answer.body) as body:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        async for piece in body:
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class UntilDisconnect:
    """Cancels the body of its ``async with`` when the client hangs up, and swallows that cancellation."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> "UntilDisconnect":
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._task = task
        self._watch = asyncio.create_task(self._wait())
        return self

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self._watch.cancel()
        if self._gone:
            self._task.uncancel()
            return kind is asyncio.CancelledError
        return False
