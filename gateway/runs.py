"""Runs: the one use of an approval, detached from every connection; whoever waits for it reads it from its start."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.enforcement import Answer, Heading
from gateway.errors import UpstreamError
from gateway.escalation.case import Case, StoredAnswer
from gateway.telemetry import logger
from gateway.told import Header

DRAIN_S: Final = 30.0
"""How long a gateway that stops waits for what is under way."""


class HeldBackError(Exception):
    """What is left of a reply waits for people: ``case``. ``passed`` bytes of the reply have gone out already."""

    def __init__(self, case: Case, heading: Heading, passed: int = 0) -> None:
        super().__init__(case.id)
        self.case = case
        self.heading = heading
        self.passed = passed


class LostError(Exception):
    """Somebody else used the approval, or it holds no longer: nothing was done."""


class Run:
    """One use of an approval: its answer, as far as it has come."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._status = 0
        self._headers: tuple[Header, ...] = ()
        self._media_type = b""
        self._whole = True
        self._pieces: list[bytes] = []
        self._ended = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def begin(self, answer: Answer) -> None:
        """Take over the head of ``answer``, whose body comes by ``add``."""
        self._status, self._headers, self._media_type = answer.status, answer.headers, answer.media_type
        self._whole = isinstance(answer.body, bytes)
        self._tell()

    def add(self, piece: bytes) -> None:
        """Add to the body."""
        self._pieces.append(piece)
        self._tell()

    def end(self, error: Exception | None = None) -> None:
        """Say that there is no more, and why; the first reason counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._tell()

    def stored(self) -> StoredAnswer:
        """Return the whole answer as it is kept."""
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers)
        return StoredAnswer(self._status, self._media_type.decode(), headers, b"".join(self._pieces))

    async def answer(self, passed: int = 0) -> Answer:
        """Return the answer without its first ``passed`` bytes: a stream once it has begun, else once it is whole.

        Raises what the run died of, HeldBackError and LostError among it.
        """
        while not self._ended and (self._whole or not self._status):
            await self._news.wait()
        if self._error is not None and (self._whole or not self._status):
            raise self._error
        body = b"".join(self._pieces)[passed:] if self._whole else self._read(passed)
        return Answer(self._status, body, self._headers, self._media_type)

    async def _read(self, passed: int) -> AsyncGenerator[bytes]:
        position = 0
        while True:
            while position < len(self._pieces):
                piece = self._pieces[position]
                position += 1
                if passed < len(piece):
                    yield piece[passed:]
                passed = max(0, passed - len(piece))
            if self._ended:
                break
            await self._news.wait()
        if self._error is not None:
            raise self._error

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Runs:
    """The runs of this process, at most one for what a client asks (a binding)."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, binding: str) -> Run | None:
        """Return the run that is under way."""
        return self._runs.get(binding)

    def start(self, case: Case, work: Callable[[Run], Awaitable[None]]) -> Run:
        """Start ``work`` on ``case``, which nobody who waits for it can end."""
        run = self._runs[case.binding] = Run(case)
        task = asyncio.create_task(self._carry_out(run, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def _carry_out(self, run: Run, work: Callable[[Run], Awaitable[None]]) -> None:
        error: Exception | None = None
        try:
            await work(run)
        except Exception as died:  # noqa: BLE001 - whoever waits is told
            error = died
        except asyncio.CancelledError:
            error = UpstreamError("interrupted", "the gateway stopped meanwhile: send the request again")
            raise
        finally:
            self._runs.pop(run.case.binding, None)
            run.end(error)

    async def drain(self, limit_s: float = DRAIN_S) -> None:
        """Return when every run has ended; those that take longer than ``limit_s`` are broken off.

        A case whose use was broken off stays consumed: ``Cases.recover`` finds it at the next start.
        """
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit_s)
        for task in late:
            logger.error("a run was broken off; the next start puts its case before people again")
            task.cancel()
        for task in late:
            with suppress(asyncio.CancelledError):
                await task
