"""The cases: opened, ruled on, used once and finished, each step durable with its entry before it returns."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

import orjson
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from audit.entry import new_id
from audit.vault import OrganizationKey
from gateway.escalation.arrows import Act, Arrows, Step, Written, past, unknown_case
from gateway.escalation.case import Case, Kind, Lesson, Opening, Reviewer, Ruling, Status, StoredAnswer
from gateway.escalation.hub import Hub
from gateway.escalation.reviewing import check_ruling
from gateway.escalation.rows import (
    consumed_before,
    find_case,
    is_known,
    list_cases,
    lock_case,
    overdue,
    read_case,
    read_sealed,
    read_statuses,
    replayed_out,
)
from gateway.escalation.sealing import ANSWER, TEXT, dump_answer, load_answer, seal, unseal
from gateway.principal import Principal
from gateway.store.records import AuditTrail
from gateway.store.users import now_ms
from gateway.store.writer import Writer
from gateway.telemetry import logger

SWEEP: Final = 256
"""How many cases one transaction expires, recovers or frees of their answers."""


class Cases:
    """The cases of all organisations.

    Every arrow is one compare-and-swap, its entry and its notices in one transaction, and durable when the method
    returns. A method whose caller is cancelled still takes its arrow, and listeners and waiters still learn of it.
    AuditUnavailable when a step cannot be made durable: then it was not taken, or it was and nobody was told.

    ``open_per_key`` bounds the pending cases of one key. An approval may be used for ``approval_ttl_s``; a finished
    answer, and the news that a case expired, are told again for ``replay_s``; a denial or a person's answer for
    ``remember_s``. Past these a re-sent request is judged anew.
    """

    def __init__(
        self,
        reader: Engine,
        writer: Writer,
        trail: AuditTrail,
        *,
        open_per_key: int = 100,
        approval_ttl_s: float = 3600,
        replay_s: float = 600,
        remember_s: float = 86400,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._trail = trail
        self._replay_ms = round(replay_s * 1000)
        self._remember_ms = round(remember_s * 1000)
        self._clock = clock
        self._arrows = Arrows(
            clock,
            open_per_key=open_per_key,
            approval_ttl_ms=round(approval_ttl_s * 1000),
            replay_ms=self._replay_ms,
        )
        self._hub = Hub(self._statuses)
        self._listeners: list[Callable[[Case], None]] = []

    async def binding(self, principal: Principal, endpoint: str, body: bytes, idempotency_key: str | None) -> str:
        """Return what a request is recognised by: a keyed digest over all that makes it this request.

        ``body`` is the exact bytes that would be forwarded. Nobody without the organisation's key can test a guess.
        """
        key = await self._trail.key(principal.organization)
        parts = [principal.key_id, endpoint, hashlib.sha256(body).hexdigest(), idempotency_key]
        return key.pseudonym("binding", orjson.dumps(parts).decode())

    async def open(self, opening: Opening) -> Case:
        """Record the decision and open its case: entries, case, notices and sealed payloads in one transaction.

        When the binding has a live case already, that one is returned, with nothing opened twice. TooManyCases when the
        key has its fill of pending cases and the opening continues none; the decision is recorded in every case.
        CaseNotFound when the predecessor is not a case of the organisation.
        """
        key = await self._trail.key(opening.principal.organization)
        case = self._drawn(opening, key)
        sealed = await seal(key, case.payload_entry, opening.payloads)
        step = partial(self._arrows.open, opening=opening, case=case, sealed=sealed)
        try:
            return (await self._commit(step)).told()
        except IntegrityError:  # another replica opened one for the binding meanwhile: now it is seen
            return (await self._commit(step)).told()

    async def find(self, organization: str, binding: str) -> Case | None:
        """Return the case that speaks for a request now, None when it is to be judged.

        A live case always does; a denial or a person's answer for ``remember_s``, a finished answer until
        ``replay_until``, an expiry and a withdrawal after a change of policy for ``replay_s``; a failure or an unknown
        outcome through its successor.
        A request that never had a case costs one read of an index.
        """
        if not is_known(self._reader, organization, binding):
            return None
        with self._reader.connect() as conn:
            case = find_case(conn, organization, binding)
            while case is not None and not self._speaks(case):
                if case.status not in ("failed", "outcome_unknown") or case.successor is None:
                    return None
                case = read_case(conn, case.successor)
        return case

    async def get(self, case_id: str) -> Case | None:
        """Return the case; None when there is none."""
        with self._reader.connect() as conn:
            return read_case(conn, case_id)

    def listing(self, organization: str | None = None, status: Status | None = None, limit: int = 100) -> list[Case]:
        """Return cases, of all organisations when none is named: the pending ones first, then the newest."""
        with self._reader.connect() as conn:
            return list_cases(conn, organization, status, limit)

    async def payload(self, case: Case, name: str) -> bytes | None:
        """Return what was sealed with the case: ``request``, ``reply``, ``asked``, or ``answer`` for a person's text.

        None when there is none, or it was erased. audit.errors.VaultError when it was altered.
        """
        if name == ANSWER:
            given = next((each for each in case.rulings if each.kind == "answer"), None)
            return None if given is None else await self._unsealed(case.organization, given.entry_id, TEXT)
        return await self._unsealed(case.organization, case.payload_entry, name)

    async def text(self, case: Case, ruling: Ruling) -> str | None:
        """Return what a reviewer wrote with a ruling; None when nothing, or it was erased."""
        found = await self._unsealed(case.organization, ruling.entry_id, TEXT)
        return None if found is None else found.decode()

    async def rule(
        self, case_id: str, by: Reviewer, kind: Kind, *, text: str | None = None, lesson: Lesson | None = None
    ) -> Case:
        """Record a reviewer's ruling and, when it decides, take its arrow; return the case as it is then.

        A case that needs several approvals stays pending until there are as many of distinct reviewers; one denial or
        one answer decides. RulingError for a ruling that nobody could give, CaseNotFound, NotReviewerError (recorded as
        ``ruling_refused``) when this person may not, CaseStateError when the case is not pending or is past due.
        """
        data = check_ruling(by, kind, text, lesson)
        _, key = await self._known(case_id)
        entry_id = new_id()
        sealed = await seal(key, entry_id, {} if data is None else {TEXT: data})
        acting = {"actor": key.pseudonym("actor", by.name), "auth": by.auth}
        if by.os_user is not None:
            acting["os_user"] = key.pseudonym("actor", by.os_user)
        ruling = Ruling(kind, by.name, by.auth, self._clock(), lesson, entry_id)
        act = Act(ruling, by, acting, Written(entry_id, sealed))
        return (await self._commit(partial(self._arrows.rule, case_id=case_id, act=act))).told()

    async def consume(self, case_id: str, revision: str) -> Case | None:
        """Use an approval for the one call that it allows; None when it cannot be used (any more).

        Of any number of callers in any number of processes, one gets the case. ``revision`` is that of the policy in
        force: an approval under another one is not used.
        """
        return (await self._commit(partial(self._arrows.consume, case_id=case_id, revision=revision))).case

    async def complete(self, case_id: str, answer: StoredAnswer) -> Case:
        """Finish a consumed case, with its answer sealed for ``replay_s``. CaseNotFound, CaseStateError."""
        _, key = await self._known(case_id)
        entry_id = new_id()
        written = Written(entry_id, await seal(key, entry_id, {ANSWER: dump_answer(answer)}))
        return (await self._commit(partial(self._arrows.complete, case_id=case_id, written=written))).told()

    async def fail(self, case_id: str, reason: str, *, unknown: bool = False) -> Case:
        """Finish a consumed case without an answer; ``reason`` is a closed word. CaseNotFound, CaseStateError.

        ``failed``: surely nothing was executed, and the request is judged anew when it is sent again. With ``unknown``
        something may have been: ``outcome_unknown``, with a pending successor, so that people decide.
        """
        step = self._arrows.lose if unknown else self._arrows.fail
        return (await self._commit(partial(step, case_id=case_id, reason=reason))).told()

    async def withdraw(self, case_id: str, reason: str) -> Case | None:
        """Take back a case that is pending or approved; None when it is neither. ``reason`` is a closed word."""
        return await self._end(case_id, {"pending", "approved"}, "withdrawn", reason)

    async def give_up(self, case_id: str, reason: str) -> Case | None:
        """Expire a pending case before it is due (``unreachable``: nobody can be told); None when it is not pending."""
        return await self._end(case_id, {"pending"}, "expired", reason)

    async def answer(self, case: Case) -> StoredAnswer | None:
        """Return the finished answer of a completed case; None when there is none, or its time is over."""
        if case.answer_entry is None or past(case.replay_until, self._clock()):
            return None
        found = await self._unsealed(case.organization, case.answer_entry, ANSWER)
        return None if found is None else load_answer(found)

    async def expire(self) -> list[Case]:
        """Expire what is past due and the approvals that were not used in time, and return them; erase old answers.

        To be called each second; without anything to do it only reads.
        """
        expired: list[Case] = []
        while await self._sweep(expired):
            pass
        return expired

    async def recover(self, *, older_than_s: float = 0) -> list[Case]:
        """Finish what a crash left consumed as ``outcome_unknown``, each with a pending successor; return those.

        For the start, before anything is served. Where replicas share a database, ``older_than_s`` must be longer than
        any call takes, for another replica may be at work.
        """
        recovered: list[Case] = []
        moment = self._clock() - round(older_than_s * 1000)
        while True:
            with self._reader.connect() as conn:
                ids = consumed_before(conn, moment, SWEEP)
            if not ids:
                return recovered
            step = await self._commit(partial(self._lose, case_ids=ids))
            recovered += [case for case in step.moved if case.status == "pending"]

    async def changed(self, case: Case, timeout_s: float) -> Case:
        """Return the case once its status is not ``case.status``, at the latest after ``timeout_s``; CaseNotFound.

        A waiter costs a future; what other processes do is seen within a second, by one read for all waiters.
        """
        waiting = self._hub.enter(case)
        try:
            newest = await self._present(case.id)
            if newest.status == case.status and timeout_s > 0:
                await self._hub.wait(waiting, timeout_s)
                newest = await self._present(case.id)
            return newest
        finally:
            self._hub.leave(case, waiting)

    def subscribe(self, listener: Callable[[Case], None]) -> None:
        """Call ``listener`` on the event loop after each transition that this process made durable, openings too."""
        self._listeners.append(listener)

    async def _end(self, case_id: str, statuses: Collection[Status], status: Status, reason: str) -> Case | None:
        step = partial(self._arrows.end, case_id=case_id, statuses=statuses, status=status, reason=reason)
        return (await self._commit(step)).case

    async def _sweep(self, expired: list[Case]) -> bool:
        """Do one transaction of ``expire``; tell whether there may be more to do."""
        now = self._clock()
        with self._reader.connect() as conn:
            late, answers = overdue(conn, now, SWEEP), replayed_out(conn, now, SWEEP)
        if not late and not answers:
            return False
        expired += (await self._commit(partial(self._tidy, late=late, answers=answers))).moved
        return max(len(late), len(answers)) >= SWEEP

    def _tidy(self, conn: Connection, late: list[str], answers: list[tuple[str, str, str]]) -> Step:
        self._arrows.forget(conn, answers)
        cases = [case for case_id in late if (case := lock_case(conn, case_id)) is not None]
        steps = [step for case in cases if (step := self._arrows.late(conn, case)) is not None]
        return Step(moved=tuple(case for step in steps for case in step.moved))

    def _lose(self, conn: Connection, case_ids: list[str]) -> Step:
        steps = [self._arrows.lose(conn, case_id, "crash") for case_id in case_ids]
        return Step(moved=tuple(case for step in steps for case in step.moved))

    async def _commit(self, function: Callable[[Connection], Step]) -> Step:
        future = self._writer.submit(function)
        future.add_done_callback(self._tell)
        return await asyncio.shield(future)

    def _tell(self, future: "asyncio.Future[Step]") -> None:
        """Tell listeners and waiters what became durable, whether or not the caller still waits."""
        if future.cancelled() or future.exception() is not None:
            return
        for case in future.result().moved:
            self._hub.wake(case)
            for listener in self._listeners:
                try:
                    listener(case)
                except Exception:  # noqa: BLE001 - what is durable stays
                    logger.exception("a listener failed", case=case.id)

    def _drawn(self, opening: Opening, key: OrganizationKey) -> Case:
        """Return the case that ``opening`` describes."""
        principal, decision, now = opening.principal, opening.decision, self._clock()
        return Case(
            id=new_id(),
            organization=principal.organization,
            status="pending",
            stage=opening.stage,
            endpoint=opening.endpoint,
            stream=opening.stream,
            key_id=principal.key_id,
            owner=principal.owner,
            subject=None if opening.subject is None else key.pseudonym("subject", opening.subject),
            request_id=opening.request_id,
            decision_id=decision.id,
            domain=decision.domain,
            policy=decision.policy,
            revision=decision.revision,
            handling=opening.handling,
            binding=opening.binding,
            reply_digest=opening.reply_digest,
            opened_at=now,
            due_at=now + opening.handling.due_s * 1000,
            predecessor=opening.predecessor,
            payload_entry=new_id(),
        )

    def _speaks(self, case: Case) -> bool:
        now = self._clock()
        match case.status:
            case "pending" | "approved" | "consumed":
                return True
            case "denied" | "answered":
                return not past((case.finished_at or 0) + self._remember_ms, now)
            case "expired":
                return not past((case.finished_at or 0) + self._replay_ms, now)
            case "withdrawn":  # whoever asks again before there is a successor opens it, linked to this one
                return case.reason == "policy_changed" and not past((case.finished_at or 0) + self._replay_ms, now)
            case "completed":
                return not past(case.replay_until, now)
            case _:
                return False

    def _statuses(self, case_ids: Collection[str]) -> Mapping[str, Status]:
        with self._reader.connect() as conn:
            return read_statuses(conn, case_ids)

    async def _present(self, case_id: str) -> Case:
        case = await self.get(case_id)
        if case is None:
            raise unknown_case(case_id)
        return case

    async def _known(self, case_id: str) -> tuple[Case, OrganizationKey]:
        case = await self._present(case_id)
        return case, await self._trail.key(case.organization)

    async def _unsealed(self, organization: str, entry_id: str, name: str) -> bytes | None:
        with self._reader.connect() as conn:
            sealed = read_sealed(conn, organization, entry_id, name)
        if sealed is None:
            return None
        return await unseal(await self._trail.key(organization), sealed)
