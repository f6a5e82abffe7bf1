"""Waiting for a case to change: one future a waiter, one look a second for all that other replicas do."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from gateway.escalation.case import Case, Status
from gateway.telemetry import logger

LOOK_S: Final = 1.0

Look = Callable[[Collection[str]], Mapping[str, Status]]
"""Returns the present status of each of these cases."""


class Hub:
    """Wakes whoever waits for a case. Waiting costs no thread, and no timer of its own beyond the time-out's."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._waiting: dict[str, dict[asyncio.Future[None], Status]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiters(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def enter(self, case: Case) -> "asyncio.Future[None]":
        """Return a future that resolves when the case no longer has this status; ``leave`` gives it back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(case.id, {})[future] = case.status
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._tick)
        return future

    def leave(self, case: Case, future: "asyncio.Future[None]") -> None:
        """Forget a waiter."""
        waiting = self._waiting.get(case.id, {})
        waiting.pop(future, None)
        if not waiting:
            self._waiting.pop(case.id, None)
        future.cancel()
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, future: "asyncio.Future[None]", timeout_s: float) -> None:
        """Return when ``future`` resolves or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await future

    def wake(self, case: Case) -> None:
        """Resolve the waiters of a case that now has another status."""
        for future, status in self._waiting.get(case.id, {}).items():
            if status != case.status and not future.done():
                future.set_result(None)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._tick)
        try:
            statuses = self._look(list(self._waiting))
        except Exception:  # noqa: BLE001 - it looks again
            logger.exception("the cases that are waited for could not be read")
            return
        for case_id, now in statuses.items():
            for future, before in self._waiting.get(case_id, {}).items():
                if before != now and not future.done():
                    future.set_result(None)
