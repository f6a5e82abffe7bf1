"""The arrows of a case: each with its entries and its notices, inside the transaction of whoever takes it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection

from audit.entry import build_entry, new_id
from audit.log import Record, append_records
from audit.vault import Sealed
from gateway.errors import CaseNotFound, CaseStateError, GatewayError, TooManyCases
from gateway.escalation.case import RESOLUTIONS, Case, Opening, Reviewer, Ruling, Status, fold
from gateway.escalation.outbox import add_deliveries
from gateway.escalation.reviewing import refusal, refused
from gateway.escalation.rows import (
    count_pending,
    find_case,
    forget_answer,
    insert_case,
    insert_ruling,
    link_successor,
    lock_case,
    move_case,
)
from gateway.store.inputs import add_inputs

SHA256: Final = "sha256:"


@dataclass(frozen=True, slots=True)
class Step:
    """What a transaction did.

    ``case`` is what it is about, ``moved`` all cases that are new or took an arrow, in order, and ``error`` what the
    caller is told although the transaction stands.
    """

    case: Case | None = None
    moved: tuple[Case, ...] = ()
    error: GatewayError | None = None

    def told(self) -> Case:
        """Return the case, or raise what the caller is told."""
        if self.error is not None:
            raise self.error
        if self.case is None:
            raise CaseStateError("", "somebody else was faster: read the case again")
        return self.case


@dataclass(frozen=True, slots=True)
class Written:
    """The entry that a step writes, made before the transaction because its payloads are sealed for its id."""

    entry_id: str
    sealed: tuple[Sealed, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """A reviewer's ruling before it is allowed. ``acting`` are the fields of an entry that tell who acts."""

    ruling: Ruling
    by: Reviewer
    acting: Mapping[str, str]
    written: Written


class Arrows:
    """Takes arrows. Nothing of it outlives the transaction unless that commits."""

    def __init__(self, clock: Callable[[], int], *, open_per_key: int, approval_ttl_ms: int, replay_ms: int) -> None:
        self._clock = clock
        self._open_per_key = open_per_key
        self._approval_ttl_ms = approval_ttl_ms
        self._replay_ms = replay_ms

    def open(self, conn: Connection, opening: Opening, case: Case, sealed: Sequence[Sealed]) -> Step:
        """Record the decision and open ``case``, unless its binding has a live one or its key has its fill."""
        before = None
        if opening.predecessor is not None:
            before = lock_case(conn, opening.predecessor)
            if before is None or before.organization != case.organization:
                return Step(error=unknown_case(opening.predecessor))

        def decided(fields: Mapping[str, Any]) -> None:
            about = {**opening.fields, **fields}
            append(conn, record(case.organization, "decision", about, sealed, case.subject, case.payload_entry))
            if opening.inputs is not None:
                add_inputs(conn, [opening.inputs])

        live = find_case(conn, case.organization, case.binding)
        ends = before is not None and before.status == "consumed"
        if live is not None and live.live and not (ends and before is not None and live.id == before.id):
            decided({"case": live.id})
            return Step(live)
        if before is None and count_pending(conn, case.organization, case.key_id) >= self._open_per_key:
            decided({})
            return Step(error=TooManyCases(case.decision_id, self._open_per_key))
        decided({"case": case.id})
        moved: tuple[Case, ...] = ()
        if before is not None and ends:
            now = case.opened_at
            moved = self._move(
                conn,
                before,
                "completed",
                finished_at=now,
                replay_until=now,
                reason="escalated_again",
                successor=case.id,
            ).moved
        elif before is not None:
            link_successor(conn, before, case.id)
        self._insert(conn, case)
        return Step(case, (*moved, case))

    def rule(self, conn: Connection, case_id: str, act: Act) -> Step:
        """Record a ruling and take its arrow when it decides, or record why it is refused."""
        case = lock_case(conn, case_id)
        if case is None:
            return Step(error=unknown_case(case_id))
        ground = refusal(case, act.by)
        if ground is None:
            late = self.late(conn, case)
            if late is not None or case.status != "pending":
                step = late or Step(case)
                return Step(step.case, step.moved, wrong_state(step.case or case, "decided"))
            if fold(act.by.name) in {fold(each.by) for each in case.rulings}:
                ground = "ruled_already"
        ruling = act.ruling
        if ground is not None:
            append(conn, entry(case, "ruling_refused", {"kind": ruling.kind, "ground": ground, **act.acting}))
            return Step(case, error=refused(ground, case))
        insert_ruling(conn, case, ruling)
        fields = {"kind": ruling.kind, **act.acting, **({} if ruling.lesson is None else {"lesson": ruling.lesson})}
        append(conn, entry(case, "case_ruled", fields, act.written))
        return self._decide(conn, replace(case, rulings=(*case.rulings, ruling)), ruling)

    def _decide(self, conn: Connection, case: Case, ruling: Ruling) -> Step:
        if ruling.kind != "approve":
            return self._move(conn, case, RESOLUTIONS[ruling.kind], decided_at=ruling.at, finished_at=ruling.at)
        if sum(each.kind == "approve" for each in case.rulings) < case.handling.approvals:
            return Step(case)
        expires_at = ruling.at + self._approval_ttl_ms
        return self._move(conn, case, "approved", decided_at=ruling.at, expires_at=expires_at)

    def consume(self, conn: Connection, case_id: str, revision: str) -> Step:
        """Use an approval; without a case when it cannot be used."""
        case, now = lock_case(conn, case_id), self._clock()
        if case is None or case.status != "approved" or case.revision != revision or past(case.expires_at, now):
            return Step()
        return self._move(conn, case, "consumed", consumed_at=now)

    def complete(self, conn: Connection, case_id: str, written: Written) -> Step:
        """Finish a consumed case with its answer."""
        now = self._clock()
        changes = {"finished_at": now, "replay_until": now + self._replay_ms, "answer_entry": written.entry_id}
        return self._finish(conn, case_id, "completed", changes, written)

    def fail(self, conn: Connection, case_id: str, reason: str) -> Step:
        """Finish a consumed case of which surely nothing was executed."""
        return self._finish(conn, case_id, "failed", {"finished_at": self._clock(), "reason": reason})

    def lose(self, conn: Connection, case_id: str, reason: str) -> Step:
        """Finish a consumed case of which nobody knows what was executed, and open its successor."""
        case = lock_case(conn, case_id)
        if case is None:
            return Step(error=unknown_case(case_id))
        if case.status != "consumed":
            return Step(case, error=wrong_state(case, "finished"))
        now = self._clock()
        successor = replace(
            case,
            id=new_id(),
            status="pending",
            opened_at=now,
            due_at=now + case.handling.due_s * 1000,
            decided_at=None,
            expires_at=None,
            consumed_at=None,
            predecessor=case.id,
            rulings=(),
        )
        step = self._move(conn, case, "outcome_unknown", finished_at=now, reason=reason, successor=successor.id)
        if step.case is None:
            return step
        self._insert(conn, successor)
        return Step(step.case, (*step.moved, successor))

    def end(self, conn: Connection, case_id: str, statuses: Collection[Status], status: Status, reason: str) -> Step:
        """Move a case that is in one of ``statuses`` to ``status``; without a case when it is in none."""
        case = lock_case(conn, case_id)
        if case is None or case.status not in statuses:
            return Step()
        return self._move(conn, case, status, finished_at=self._clock(), reason=reason)

    def late(self, conn: Connection, case: Case) -> Step | None:
        """Expire a case that is past its time; None when it is not."""
        now = self._clock()
        if case.status == "pending" and past(case.due_at, now):
            return self._move(conn, case, "expired", finished_at=now, reason="due")
        if case.status == "approved" and past(case.expires_at, now):
            return self._move(conn, case, "expired", finished_at=now, reason="unused")
        return None

    def forget(self, conn: Connection, answers: Sequence[tuple[str, str, str]]) -> None:
        """Erase answers (case, organisation, entry) whose time is over, with an entry of it for each organisation."""
        erased: dict[str, list[str]] = {}
        for case_id, organization, entry_id in answers:
            if forget_answer(conn, case_id, organization, entry_id):
                erased.setdefault(organization, []).append(entry_id)
        for organization, entries in erased.items():
            fields = {"entries": entries, "ground": "replay_over", "auth": "gateway"}
            append(conn, record(organization, "erasure", fields))

    def _insert(self, conn: Connection, case: Case) -> None:
        insert_case(conn, case)
        fields = {
            "request": case.request_id,
            "decision": case.decision_id,
            "stage": case.stage,
            "route": case.endpoint,
            "key": case.key_id,
            "policy": _token(case.policy),
            "revision": case.revision.removeprefix(SHA256),
            "due": case.due_at,
            "approvals": case.handling.approvals,
            "domain": case.domain,
            "route_to": _token(case.handling.route),
            "predecessor": case.predecessor,
        }
        append(conn, entry(case, "case_opened", fields))
        add_deliveries(conn, case.organization, case.id, "opened", case.handling.targets, case.opened_at)

    def _finish(
        self, conn: Connection, case_id: str, status: Status, changes: Mapping[str, Any], written: Written | None = None
    ) -> Step:
        case = lock_case(conn, case_id)
        if case is None:
            return Step(error=unknown_case(case_id))
        if case.status != "consumed":
            return Step(case, error=wrong_state(case, "finished"))
        return self._move(conn, case, status, written, **changes)

    def _move(
        self, conn: Connection, case: Case, status: Status, written: Written | None = None, **changes: Any
    ) -> Step:
        """Take the arrow with its entry and its notices; without a case when somebody else was faster."""
        moved = move_case(conn, case, status, **changes)
        if moved is None:
            return Step()
        fields = {"status": status, "before": case.status, "request": case.request_id, "decision": case.decision_id}
        fields |= {name: changes[name] for name in ("reason", "successor") if name in changes}
        append(conn, entry(case, "case", fields, written))
        if case.status == "pending" and moved.reason != "unreachable":
            shared = [target for target in case.handling.targets if target.channel != "email"]
            add_deliveries(conn, case.organization, case.id, "decided", shared, self._clock())
        return Step(moved, (moved,))


def unknown_case(case_id: str) -> CaseNotFound:
    """Return the error that there is no such case."""
    return CaseNotFound(f"there is no case `{case_id[:40]}`")


def wrong_state(case: Case, what: str) -> CaseStateError:
    """Return the error that ``case`` cannot be ``what`` (decided, finished) as it stands."""
    return CaseStateError(case.status, f"the case is {case.status.replace('_', ' ')}: it cannot be {what} now")


def past(moment: int | None, now: int) -> bool:
    """Tell whether ``moment`` has come, or there is none."""
    return moment is None or moment <= now


def append(conn: Connection, *records: Record) -> None:
    """Append entries in the order given."""
    append_records(conn, records)


def entry(case: Case, event: str, fields: Mapping[str, Any], written: Written | None = None) -> Record:
    """Return an entry about ``case``."""
    sealed, entry_id = (written.sealed, written.entry_id) if written else ((), None)
    return record(case.organization, event, {"case": case.id, **fields}, sealed, case.subject, entry_id)


def record(
    organization: str,
    event: str,
    fields: Mapping[str, Any],
    sealed: Sequence[Sealed] = (),
    subject: str | None = None,
    entry_id: str | None = None,
) -> Record:
    """Return an entry with its sealed payloads; ``subject`` is a pseudonym."""
    commitments = {each.name: each.commitment for each in sealed}
    return Record(build_entry(organization, event, fields, commitments, entry_id=entry_id), tuple(sealed), subject)


def _token(text: str) -> str:
    """Return a policy's own word in the printable ASCII that an entry may hold."""
    return quote(text, safe="!\"#$&'()*+,/:;<=>?@[\\]^`{|}~")[:200]
