"""The passage: one call on its way through the gateway, up to its last entry."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.decision import Decision, Obligation
from gateway.enforcement import Heading
from gateway.entries import enforcement_fields
from gateway.escalation.case import Case
from gateway.ports import Call, Trail
from gateway.runs import HeldBackError
from gateway.telemetry import logger
from gateway.told import Header, case_headers, decision_headers, undecided_headers

CLOSE_S: Final = 0.025
"""How long the last entry of a call waits for company. Nobody waits for it: the decision is durable already."""


@dataclass(frozen=True, slots=True)
class _Last:
    call: Call
    fields: Mapping[str, Any]
    payloads: Mapping[str, bytes]


class Closings:
    """Writes the last entries of calls, some at once, so that they do not stand in the way of decisions."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._waiting: list[_Last] = []
        self._background: set[asyncio.Future[object]] = set()

    def add(self, call: Call, fields: Mapping[str, Any], payloads: Mapping[str, bytes]) -> None:
        """Write an entry ``enforcement`` soon."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(CLOSE_S, self._write)
        self._waiting.append(_Last(call, fields, payloads))

    async def drain(self) -> None:
        """Return when all are written."""
        self._write()
        while self._background:
            await asyncio.wait(self._background)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for last in waiting:
            organization = last.call.principal.organization
            writing = self._trail.record(
                organization, "enforcement", last.fields, last.payloads, subject=last.call.subject
            )
            task = asyncio.ensure_future(writing)
            self._background.add(task)
            task.add_done_callback(self._written)

    def _written(self, task: "asyncio.Future[object]") -> None:
        self._background.discard(task)
        with suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                logger.error("an enforcement entry was not written", exc_info=error)


class Passage:
    """One call on its way: the last decision about it, what its client has got so far, and its one last entry.

    Its client waits for people for ``wait_s``, from when ``left_s`` is first asked for. ``heading`` is what a
    substitute for the reply repeats, ``passed`` how many bytes of the reply the client has. ``headers`` tell the last
    decision, and ``obligations`` are what it asks of what passes.
    """

    def __init__(self, call: Call, closings: Closings, wait_s: float) -> None:
        self.call = call
        self.binding = ""
        request = call.request
        self.heading = Heading(request.model, request.stream, tuple(range(request.choices)), format=call.format)
        self.passed = 0
        self.headers: tuple[Header, ...] = ()
        self.obligations: tuple[Obligation, ...] = ()
        self.gone = "client_disconnected"
        self._wait_s = wait_s
        self._deadline: float | None = None
        self._closings = closings
        self._decision_id: str | None = None
        self._case_id: str | None = None
        self._closed = False

    @property
    def left_s(self) -> float:
        """How long its client still waits for people."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._wait_s
        return self._deadline - time.monotonic()

    @property
    def decided(self) -> bool:
        """Whether a decision about it is on record."""
        return self._decision_id is not None

    def decide(self, decision: Decision) -> None:
        """Take ``decision``, which is durable, as the last one."""
        self._decision_id, self._case_id = decision.id, None
        self.obligations = decision.obligations if decision.enforced else ()
        self.headers = decision_headers(decision)

    def leave_undecided(self, decision_id: str) -> None:
        """Take note that there was no verdict, which is on record as ``decision_id``."""
        self._decision_id, self._case_id = decision_id, None
        self.headers = undecided_headers(decision_id)

    def concern(self, case: Case) -> None:
        """Take note that ``case`` decides about it; the decision is its own, else the one that opened the case."""
        self._decision_id, self._case_id = self._decision_id or case.decision_id, case.id
        self.headers = case_headers(case, case.status)

    def hold_back(self, held: HeldBackError) -> Case:
        """Take note of what the client has of a reply whose rest waits for people; return their case."""
        self.heading, self.passed = held.heading, held.passed
        return held.case

    def close(self, outcome: str, status: int | None = None, reply: bytes | None = None) -> None:
        """Write the last entry, unless it is written or nothing was decided."""
        if self._closed or self._decision_id is None:
            return
        self._closed = True
        fields = enforcement_fields(self.call.id, self._decision_id, outcome, status, self._case_id)
        self._closings.add(self.call, fields, {} if reply is None else {"reply": reply})

    def hand_over(self) -> Self:
        """Return the passage of a run for this call: it writes the last entry, whatever becomes of the client."""
        twin = type(self)(self.call, self._closings, 0)
        twin.binding, twin.heading, twin.headers = self.binding, self.heading, self.headers
        twin._decision_id, twin._case_id = self._decision_id, self._case_id
        twin.gone = "interrupted"
        self._closed = True
        return twin

    def take_back(self) -> None:
        """Write the last entry after all: the run did nothing."""
        self._closed = False
