"""Background responses: calls that run on without their clients, and what became of them, to be fetched later."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import orjson
from uuid6 import uuid7

from gateway.enforcement import Answer, failure_answer, problem_in
from gateway.errors import GatewayError, NotFoundError, RequestError
from gateway.ports import Call
from gateway.principal import Principal
from gateway.telemetry import logger
from gateway.wire.format import Notice
from gateway.wire.responses_shapes import failed, waiting

KEEP_S: Final = 600.0
"""How long an answer can be fetched."""
WAITING_S: Final = 86400.0
"""How long a call that waits for people is kept after its client last asked for it."""
MAX_PER_KEY: Final = 100
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of all requests and answers that are kept."""


class TooManyBackgroundError(RequestError):
    """Too much is kept already."""

    status = 429
    code = "too_many_background_responses"


@dataclass(slots=True)
class _Kept:
    id: str
    call: Call
    task: asyncio.Task[Answer]
    touched_at: float
    cancelled: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def notice(self) -> Notice:
        return Notice("", self.call.request.model, id=self.id, created=self.created)

    @property
    def size(self) -> int:
        return len(self.call.request.forwarded) + len(self.ended[1] if self.ended else b"")

    @property
    def ended(self) -> tuple[Answer, bytes] | None:
        """The answer, if it has one, with its body."""
        if self.cancelled or not self.task.done() or self.task.cancelled():
            return None
        answer = self.task.result()
        assert isinstance(answer.body, bytes)  # noqa: S101 - `_whole` made it so
        return answer, answer.body

    @property
    def waits(self) -> bool:
        """Whether its call came back because people have not decided."""
        ended = self.ended
        return ended is not None and ended[0].status == 409 and problem_in(ended[0]).code == "escalation_pending"

    def over(self, now: float) -> bool:
        """Tell whether its time is over."""
        limit = WAITING_S if self.waits else KEEP_S
        return (self.task.done() or self.cancelled) and now - self.touched_at > limit


class Background:
    """Runs calls by ``govern`` and keeps what becomes of them, in memory only: a restart forgets them.

    A call whose case waits for people runs again whenever it is asked for, as if its client had sent it again.
    """

    def __init__(
        self, govern: Callable[[Call], Awaitable[Answer]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._govern = govern
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def start(self, call: Call) -> Answer:
        """Return the queued response at once; raise TooManyBackgroundError where too much is kept."""
        self._forget()
        of_key = sum(kept.call.principal.key_id == call.principal.key_id for kept in self._kept.values())
        size = sum(kept.size for kept in self._kept.values()) + len(call.request.forwarded)
        if of_key >= MAX_PER_KEY or size > MAX_BYTES:
            raise TooManyBackgroundError("too many background responses are kept already: fetch them, or wait")
        call = replace(call, wait_s=None)
        kept = _Kept(f"resp_{uuid4().hex}", call, self._run(call), self._clock())
        self._kept[kept.id] = kept
        return _told(waiting(kept.notice, "queued"))

    def fetch(self, principal: Principal, response_id: str) -> Answer:
        """Return the response as it stands, to whoever asked for it; to anybody else it does not exist."""
        kept = self._own(principal, response_id)
        if kept.cancelled:
            return _told(waiting(kept.notice, "cancelled"))
        if not kept.task.done():
            return _told(waiting(kept.notice, "in_progress"))
        if kept.waits:
            held, _ = kept.ended or (Answer(200, b""), b"")
            kept.task, kept.touched_at = self._run(replace(kept.call, id=str(uuid7()))), self._clock()
            return replace(_told(waiting(kept.notice, "in_progress")), headers=held.headers)
        return _final(kept)

    def cancel(self, principal: Principal, response_id: str) -> Answer:
        """End the call, unless it has ended, and return the response."""
        kept = self._own(principal, response_id)
        if not kept.task.done() or kept.waits:
            kept.cancelled, kept.touched_at = True, self._clock()
            kept.task.cancel()
        return self.fetch(principal, response_id)

    async def close(self) -> None:
        """Break off what is under way and forget everything."""
        tasks = [kept.task for kept in self._kept.values()]
        self._kept.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, call: Call) -> asyncio.Task[Answer]:
        return asyncio.create_task(self._whole(call))

    async def _whole(self, call: Call) -> Answer:
        try:
            answer = await self._govern(call)
            if isinstance(answer.body, bytes):
                return answer
            async with aclosing(answer.body) as pieces:
                return replace(answer, body=b"".join([piece async for piece in pieces]))
        except Exception as error:  # noqa: BLE001 - told to whoever fetches it
            if not isinstance(error, GatewayError):
                logger.exception("a background response failed")
            return failure_answer(error, wire=call.format)

    def _own(self, principal: Principal, response_id: str) -> _Kept:
        self._forget()
        kept = self._kept.get(response_id)
        owner = None if kept is None else kept.call.principal
        if (
            kept is None
            or owner is None
            or (owner.organization, owner.owner) != (principal.organization, principal.owner)
        ):
            raise NotFoundError(
                f"there is no response `{response_id}`: this gateway keeps those that were asked for with "
                f"`background`, for {KEEP_S / 60:g} minutes"
            )
        return kept

    def _forget(self) -> None:
        now = self._clock()
        for kept in [kept for kept in self._kept.values() if kept.over(now)]:
            del self._kept[kept.id]


def _final(kept: _Kept) -> Answer:
    """Return how the call ended, under the id that its client knows."""
    if kept.ended is None:
        return _told(waiting(kept.notice, "cancelled"))
    answer, body = kept.ended
    if answer.status == 200:
        return Answer(200, _named(body, {"id": kept.id}), answer.headers)
    problem = problem_in(answer)
    governance = {name: problem.extra[name] for name in ("governance",) if name in problem.extra}
    return Answer(200, _named(failed(kept.notice, problem), governance), answer.headers)


def _told(body: bytes) -> Answer:
    return Answer(200, _named(body, {}))


def _named(body: bytes, fields: dict[str, Any]) -> bytes:
    return orjson.dumps(orjson.loads(body) | fields | {"background": True})
