"""A client's connection: kept alive while people decide, told what goes wrong, and closed with all that it reads."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from gateway.enforcement import STREAM_TYPE, Answer, failure, failure_answer, in_completion, in_stream
from gateway.errors import AuditUnavailable, GatewayError
from gateway.escalation.case import Case
from gateway.passage import Passage
from gateway.runs import HeldBackError
from gateway.told import case_headers
from gateway.wire.sse import write_comment

BEAT_S: Final = 10.0
"""Longest silence on an open connection."""

Follow = Callable[[Passage, Case], Coroutine[Any, Any, Answer]]
"""Returns what becomes of a case."""


async def answered(passage: Passage, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what ``work`` gives, or the answer to what went wrong, with the last entry of the call."""
    try:
        return await work
    except AuditUnavailable as error:
        return failure_answer(error, wire=passage.call.format)
    except GatewayError as error:
        if not passage.decided:
            raise
        passage.close(failure(error).code)
        return failure_answer(error, passage.headers, passage.call.format)
    except asyncio.CancelledError:
        passage.close(passage.gone)
        raise


async def streaming(passage: Passage, answer: Answer, follow: Follow) -> Answer:
    """Return a streamed answer whose connection closes its source, and waits on where people decide."""
    assert not isinstance(answer.body, bytes)  # noqa: S101 - only streams come here
    body = _stream(passage, answer.body, follow)
    await anext(body)
    return replace(answer, body=body)


async def _stream(passage: Passage, pieces: AsyncGenerator[bytes], follow: Follow) -> AsyncGenerator[bytes]:
    outcome: str | None = passage.gone
    try:
        async with aclosing(pieces):
            yield b""
            async for piece in pieces:
                yield piece
        outcome = "replayed"  # unless whoever made it has written the last entry
    except HeldBackError as held:
        outcome = None
        case = passage.hold_back(held)
        task = asyncio.create_task(answered(passage, follow(passage, case)))
        async with aclosing(_alive(passage, task)) as rest:
            async for piece in rest:
                yield piece
    except GatewayError as error:
        outcome = failure(error).code
        yield in_stream(failure_answer(error), passage.heading)
    finally:
        if outcome is not None:
            passage.close(outcome)


async def held_open(passage: Passage, case: Case, task: asyncio.Task[Answer]) -> Answer:
    """Return a response that begins now and ends with what ``task`` answers."""
    alive = _alive(passage, task)
    await anext(alive)  # from here on, closing it ends the waiting
    headers = case_headers(case, "pending")
    if passage.call.request.stream:
        return Answer(200, alive, headers, STREAM_TYPE)
    return Answer(200, alive, (*headers, (b"preference-applied", b"wait=%d" % (passage.call.wait_s or 0))))


async def _alive(passage: Passage, task: asyncio.Task[Answer]) -> AsyncGenerator[bytes]:
    """Yield signs of life until ``task`` has an answer, then the answer, on a response that has begun."""
    beat = write_comment("a human decides") if passage.call.request.stream else b" "
    try:
        yield b""
        async with aclosing(_beats(task, beat)) as signs:
            async for sign in signs:
                yield sign
        async for piece in _rendered(await task, passage):
            yield piece
    finally:
        await _discard(task)


async def _rendered(answer: Answer, passage: Passage) -> AsyncGenerator[bytes]:
    """Yield an answer on a response whose status 200 is out already."""
    if not isinstance(answer.body, bytes):
        async for piece in answer.body:
            yield piece
    elif not passage.call.request.stream:
        yield in_completion(answer, passage.heading)
    else:
        yield answer.body if answer.media_type == STREAM_TYPE else in_stream(answer, passage.heading)


async def _beats(task: asyncio.Task[Answer], beat: bytes) -> AsyncGenerator[bytes]:
    """Yield ``beat`` at once and then every ``BEAT_S`` until ``task`` is done."""
    while not task.done():
        yield beat
        await asyncio.wait({task}, timeout=BEAT_S)


@contextmanager
def on_cancel(task: asyncio.Task[Answer]) -> Iterator[None]:
    """Cancel ``task`` too when whoever waits in the context is cancelled."""
    try:
        yield
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _discard(task: asyncio.Task[Answer]) -> None:
    """End ``task`` and whatever its answer still holds open."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        answer = await task
        if not isinstance(answer.body, bytes):
            await answer.body.aclose()
