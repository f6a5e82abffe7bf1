"""The delivery: takes due notices out of the outbox and hands them to their channels until somebody has taken them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random, SystemRandom
from typing import Final

from gateway.errors import AuditUnavailable, DeliveryPostponed, DeliveryRefused
from gateway.escalation.case import Case
from gateway.escalation.cases import Cases
from gateway.escalation.channels.base import Channel
from gateway.escalation.notices import compose_notice
from gateway.escalation.outbox import Due, Outbox, Problem
from gateway.escalation.schedule import DECIDED, OPENED, Schedule
from gateway.store.users import now_ms
from gateway.telemetry import logger

LOOK_S: Final = 5.0
"""Longest time between two looks into the outbox: what another replica put there is found by then."""
SEND_S: Final = 40.0
"""Longest time that one try may take; well below the lease."""
CLOSE_S: Final = 3.0
"""How long ``close`` waits for what is on its way."""


class Delivery:
    """Delivers at least once: a notice that a crash interrupts is sent again, with the same id, when its lease lapses.

    ``concurrency`` notices are on their way at once, and ``per_lane`` of one receiver, so that one that hangs delays
    only its own. ``console_url`` is the public base of the console, without ``/console``.
    """

    def __init__(
        self,
        outbox: Outbox,
        cases: Cases,
        channels: Mapping[str, Channel],
        *,
        console_url: str,
        clock: Callable[[], int] = now_ms,
        concurrency: int = 8,
        per_lane: int = 4,
        schedules: Mapping[str, Schedule] | None = None,
    ) -> None:
        self._outbox = outbox
        self._cases = cases
        self._channels = channels
        self._console_url = console_url
        self._clock = clock
        self._concurrency = concurrency
        self._per_lane = per_lane
        self._schedules = schedules or {"opened": OPENED, "decided": DECIDED}
        self._random: Random = SystemRandom()
        self._wake = asyncio.Event()
        self._closing = False
        self._loop: asyncio.Task[None] | None = None
        self._sending: dict[asyncio.Task[None], Due] = {}
        self._over: set[str] = set()
        self._unreachable: set[str] = set()

    async def start(self) -> None:
        """Begin, with whatever an earlier process left."""
        self._unreachable = {problem.case_id for problem in self.problems() if problem.unreachable}
        self._cases.subscribe(self._hear)
        self._loop = asyncio.create_task(self._run(), name="delivery")

    async def close(self) -> None:
        """Stop: what is on its way may finish within seconds, the rest goes back untried. Channels are closed."""
        self._closing = True
        self._wake.set()
        if self._loop is not None:
            await self._loop
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    def problems(self, organization: str | None = None) -> list[Problem]:
        """Return the pending cases that a channel could not tell of."""
        return self._outbox.problems(organization)

    def _hear(self, case: Case) -> None:
        if case.status != "pending":
            self._over.add(case.id)
        self._wake.set()

    async def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                await self._tidy()
                wait_s = await self._take()
            except AuditUnavailable as error:
                logger.error("notices about cases wait: the store cannot be written", extra={"problem": str(error)})
                wait_s = 1.0
            except Exception as error:  # noqa: BLE001 - whatever went wrong, the next notice must still go out
                logger.error("delivery failed", extra={"error": type(error).__name__}, exc_info=True)
                wait_s = 1.0
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                continue

    async def _tidy(self) -> None:
        """Drop what nobody needs any more, and give up the cases that nobody can be told of."""
        if over := set(self._over):
            await self._outbox.drop_opened(over)
            self._over -= over
        for case_id in tuple(self._unreachable):
            case = await self._cases.get(case_id)
            if case is not None and case.status == "pending" and case.handling.on_unreachable == "refuse":
                await self._cases.give_up(case_id, "unreachable")
            self._unreachable.discard(case_id)

    async def _take(self) -> float:
        """Start what is due, as far as there is room; return for how many seconds there is nothing to do."""
        while (room := self._concurrency - len(self._sending)) > 0:
            busy = Counter(due.lane for due in self._sending.values())
            full = [lane for lane, count in busy.items() if count >= self._per_lane]
            at = self._outbox.next_at(full)
            now = self._clock()
            if at is None or at > now:
                return LOOK_S if at is None else min((at - now) / 1000, LOOK_S)
            taken = await self._outbox.claim(room, per_lane=self._per_lane, busy=busy)
            if not taken:
                return LOOK_S
            for due in taken:
                task = asyncio.create_task(self._deliver(due), name=f"delivery-{due.id}")
                self._sending[task] = due
                task.add_done_callback(self._done)
        return LOOK_S

    def _done(self, task: asyncio.Task[None]) -> None:
        due = self._sending.pop(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "a notice is sent again: what became of it could not be recorded",
                extra={"delivery": due.id, "case": due.case_id, "error": type(error).__name__},
            )

    async def _deliver(self, due: Due) -> None:
        case = await self._cases.get(due.case_id)
        if case is None or (due.kind == "opened" and case.status != "pending"):
            await self._outbox.drop(due)
            return
        try:
            await self._send(due, case)
        except DeliveryRefused as error:
            await self._bury(due, case, error.error)
        except DeliveryPostponed as error:
            await self._postpone(due, case, error)
        except asyncio.CancelledError:
            await self._outbox.release(due)
            raise
        else:
            await self._outbox.delivered(due)

    async def _send(self, due: Due, case: Case) -> None:
        channel = self._channels.get(due.channel)
        if channel is None:
            raise DeliveryRefused("not_configured")
        try:
            async with asyncio.timeout(SEND_S):
                await channel.send(compose_notice(due, case, self._console_url))
        except (DeliveryRefused, DeliveryPostponed):
            raise
        except TimeoutError:
            raise DeliveryPostponed("timeout") from None
        except Exception as error:  # noqa: BLE001 - a fault of ours must not lose a notice
            logger.error("a channel failed", extra={"channel": due.channel, "error": type(error).__name__})
            raise DeliveryPostponed("internal") from None

    async def _postpone(self, due: Due, case: Case, error: DeliveryPostponed) -> None:
        until = case.due_at if due.kind == "opened" else None
        at = self._schedules[due.kind].next_at(
            due.attempts, self._clock(), self._random, until=until, after_s=error.after_s
        )
        if at is None:
            await self._bury(due, case, error.error)
        else:
            await self._outbox.retry(due, error.error, at)

    async def _bury(self, due: Due, case: Case, error: str) -> None:
        if not await self._outbox.dead(due, error):
            return
        about = {"case": case.id, "organization": case.organization, "channel": due.channel, "error": error}
        if due.kind == "opened" and self._outbox.unreachable(case.id):
            logger.error("nobody can be told of a case: every channel of its route failed", extra=about)
            self._unreachable.add(case.id)
        else:
            logger.warning("a notice could not be delivered", extra=about)
