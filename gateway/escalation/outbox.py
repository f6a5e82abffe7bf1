"""The outbox: notices that are written in their case's transaction and leave later, at least once.

waiting → leased → delivered | waiting (try again) | dead (no try is left) | dropped (nobody needs it any more)

Every arrow is one compare-and-swap in one transaction with its audit entry. Who sends holds a lease; one that lapses
is taken over, and what its former holder then reports counts no more. Times are milliseconds since the epoch.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, case, func, insert, or_, select, text, update

from audit.entry import new_id
from audit.log import append_records
from gateway.escalation.case import Target
from gateway.store.records import AuditTrail, build_record
from gateway.store.schema import delivery, escalation_case
from gateway.store.users import now_ms
from gateway.store.writer import Writer

LEASE_MS: Final = 60_000
CANDIDATES: Final = 256

_OPEN: Final = text("state IN ('waiting', 'leased')")
_LANE: Final = case((delivery.c.channel == "email", "email"), else_=delivery.c.channel + ":" + delivery.c.target)


@dataclass(frozen=True, slots=True)
class Due:
    """A notice that is leased to be sent. ``attempts`` counts this try too; ``id`` stays the same over all of them."""

    id: str
    organization: str
    case_id: str
    kind: str
    channel: str
    target: str
    attempts: int
    lease_until: int

    @property
    def lane(self) -> str:
        """What hangs together: all mail (one server), or everything for one webhook."""
        return "email" if self.channel == "email" else f"{self.channel}:{self.target}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A pending case that some channel could not tell of. ``errors`` maps these channels to the last error.

    ``unreachable``: no channel told anybody, and none will try again.
    """

    organization: str
    case_id: str
    errors: Mapping[str, str]
    unreachable: bool


def add_deliveries(
    conn: Connection, organization: str, case_id: str, kind: str, targets: Sequence[Target], now: int
) -> None:
    """Add one delivery a target to the caller's transaction, due at ``now``; the same target twice counts once.

    ``kind`` is ``opened`` or ``decided``; a case has each kind at most once.
    """
    rows = [
        {
            "id": new_id(),
            "org": organization,
            "case_id": case_id,
            "kind": kind,
            "channel": target.channel,
            "target": target.address,
            "state": "waiting",
            "attempts": 0,
            "next_at": now,
        }
        for target in dict.fromkeys(targets)
    ]
    if rows:
        conn.execute(insert(delivery), rows)


class Outbox:
    """The deliveries of one store. What returns is durable; AuditUnavailable when it cannot be made so."""

    def __init__(self, reader: Engine, writer: Writer, trail: AuditTrail, *, clock: Callable[[], int] = now_ms) -> None:
        self._reader = reader
        self._writer = writer
        self._trail = trail
        self._clock = clock

    def next_at(self, full: Collection[str] = ()) -> int | None:
        """Return when the next one outside of the lanes ``full`` is due; None when none waits."""
        when = case((delivery.c.state == "leased", delivery.c.lease_until), else_=delivery.c.next_at)
        with self._reader.connect() as conn:
            found: int | None = conn.scalar(select(func.min(when)).where(_OPEN, _LANE.not_in(full)))
        return found

    async def claim(
        self, limit: int, *, per_lane: int | None = None, busy: Mapping[str, int] | None = None
    ) -> list[Due]:
        """Lease at most ``limit`` that are due, oldest first.

        ``per_lane`` is how many of one lane may be sent at once, ``busy`` how many of each are.
        """
        places = dict(busy or {})
        return await self._writer.submit(lambda conn: self._claim(conn, limit, per_lane or limit, places))

    def _claim(self, conn: Connection, limit: int, per_lane: int, busy: Mapping[str, int]) -> list[Due]:
        now = self._clock()
        lease_until = now + LEASE_MS
        sending = Counter(busy)
        found = conn.execute(
            select(delivery)
            .where(
                _OPEN,
                delivery.c.next_at <= now,
                or_(delivery.c.state == "waiting", delivery.c.lease_until <= now),
                _LANE.not_in([lane for lane, count in busy.items() if count >= per_lane]),
            )
            .order_by(delivery.c.next_at, delivery.c.id)
            .limit(CANDIDATES)
            .with_for_update(skip_locked=True)
        )
        taken: list[Due] = []
        for row in found.mappings():
            due = _due(row, lease_until)
            if len(taken) < limit and sending[due.lane] < per_lane:
                sending[due.lane] += 1
                taken.append(due)
        if taken:
            conn.execute(
                update(delivery)
                .where(delivery.c.id.in_([due.id for due in taken]))
                .values(state="leased", lease_until=lease_until, attempts=delivery.c.attempts + 1)
            )
        return taken

    async def delivered(self, due: Due) -> bool:
        """Record that the receiver took it; False when the lease had lapsed."""
        values = {"state": "delivered", "delivered_at": self._clock(), "last_error": None}
        return await self._settle(due, values, "delivered")

    async def retry(self, due: Due, error: str, at: int) -> bool:
        """Give it back to be tried again at ``at``; False when the lease had lapsed."""
        return await self._settle(due, {"state": "waiting", "next_at": at, "last_error": error})

    async def release(self, due: Due) -> bool:
        """Give it back untried; False when the lease had lapsed."""
        return await self._settle(due, {"state": "waiting", "attempts": due.attempts - 1})

    async def dead(self, due: Due, error: str) -> bool:
        """Record that no try is left; False when the lease had lapsed."""
        return await self._settle(due, {"state": "dead", "last_error": error}, "delivery_dead", error=error)

    async def drop(self, due: Due) -> bool:
        """Record that it need not be sent any more; False when the lease had lapsed."""
        return await self._settle(due, {"state": "dropped"})

    async def drop_opened(self, case_ids: Collection[str]) -> None:
        """Drop what still waits to tell that these cases were opened."""
        query = (
            update(delivery)
            .where(delivery.c.case_id.in_(case_ids), delivery.c.kind == "opened", delivery.c.state == "waiting")
            .values(state="dropped")
        )
        await self._writer.submit(lambda conn: conn.execute(query).rowcount)

    def problems(self, organization: str | None = None) -> list[Problem]:
        """Return the pending cases that a channel could not tell of, oldest first."""
        others = delivery.alias()
        hopeful = (
            select(others.c.id)
            .where(others.c.case_id == delivery.c.case_id, others.c.kind == "opened", others.c.state != "dead")
            .exists()
        )
        query = (
            select(
                delivery.c.org, delivery.c.case_id, delivery.c.channel, delivery.c.last_error, hopeful.label("hopeful")
            )
            .join(escalation_case, escalation_case.c.id == delivery.c.case_id)
            .where(text("delivery.state = 'dead'"), delivery.c.kind == "opened", escalation_case.c.status == "pending")
            .order_by(delivery.c.case_id, delivery.c.id)
        )
        if organization is not None:
            query = query.where(delivery.c.org == organization)
        found: dict[str, Problem] = {}
        with self._reader.connect() as conn:
            for row in conn.execute(query):
                errors = dict(found[row.case_id].errors) if row.case_id in found else {}
                errors[row.channel] = row.last_error
                found[row.case_id] = Problem(row.org, row.case_id, errors, not row.hopeful)
        return list(found.values())

    def unreachable(self, case_id: str) -> bool:
        """Tell whether the case has deliveries that tell of it, and every one of them is dead."""
        query = select(delivery.c.state).where(delivery.c.case_id == case_id, delivery.c.kind == "opened")
        with self._reader.connect() as conn:
            states = set(conn.scalars(query))
        return states == {"dead"}

    async def _settle(self, due: Due, values: Mapping[str, Any], event: str | None = None, **extra: str) -> bool:
        key = await self._trail.key(due.organization)
        fields = {
            "case": due.case_id,
            "delivery": due.id,
            "channel": due.channel,
            "kind": due.kind,
            "attempts": due.attempts,
            **extra,
        }
        record = None if event is None else build_record(key, event, fields)

        def settle(conn: Connection) -> bool:
            changed = conn.execute(
                update(delivery)
                .where(
                    delivery.c.id == due.id,
                    delivery.c.state == "leased",
                    delivery.c.lease_until == due.lease_until,
                )
                .values(lease_until=None, **values)
            )
            if changed.rowcount and record is not None:
                append_records(conn, [record])
            return changed.rowcount == 1

        return await self._writer.submit(settle)


def _due(row: RowMapping, lease_until: int) -> Due:
    return Due(
        row["id"],
        row["org"],
        row["case_id"],
        row["kind"],
        row["channel"],
        row["target"],
        row["attempts"] + 1,
        lease_until,
    )
