"""Holding clients while people decide: how long, and how many at once."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an organisation lets a client wait for people, in seconds: in silence, and in a stream.

    ``after``: what a client is told then, ``conflict`` (409, send it again) or ``refusal``.
    """

    hold_s: float = 50.0
    stream_hold_s: float = 600.0
    after: Literal["conflict", "refusal"] = "conflict"


class Room:
    """Where requests wait: at most ``seats`` at once, and ``seats_per_key`` of one key."""

    def __init__(self, seats: int = 2000, seats_per_key: int = 200) -> None:
        self._seats = seats
        self._seats_per_key = seats_per_key
        self._taken: Counter[str] = Counter()
        self._waits: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def taken(self) -> int:
        """How many wait."""
        return self._taken.total()

    def free(self, key: str) -> bool:
        """Tell whether one more request of ``key`` may wait."""
        return not self._closed and self.taken < self._seats and self._taken[key] < self._seats_per_key

    @contextmanager
    def seat(self, key: str) -> Iterator[None]:
        """Take a seat until the context ends, however it ends."""
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]

    async def wait(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what ``work`` gives, None when the room closes before."""
        if self._closed:
            work.close()
            return None
        task = asyncio.ensure_future(work)
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            sent_away = current is not None and not current.cancelling()
            if sent_away:
                return None
            raise

    def close(self) -> None:
        """Send everybody away who waits; nobody may wait from now on."""
        self._closed = True
        for task in self._waits:
            task.cancel()
