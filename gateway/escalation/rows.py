"""Cases in the database. Everything here runs inside the caller's transaction, on SQLite and PostgreSQL alike."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, Row, bindparam, func, insert, select, text, update

from audit.log import erase_payloads, read_payloads
from audit.vault import Sealed
from gateway.escalation.case import Case, Handling, Ruling, Status, Target, fold
from gateway.store.schema import case_ruling, escalation_case

_CASE: Final = escalation_case.c
_RULING: Final = case_ruling.c
_MAX_IDS: Final = 500
_PENDING: Final = text("status = 'pending'")
"""Written out, as in the partial indexes, which are used only then."""

_FIND: Final = (
    select(escalation_case)
    .where(_CASE.org == bindparam("organization"), _CASE.binding == bindparam("binding"))
    .order_by(_CASE.finished_at.is_(None).desc(), _CASE.id.desc())
    .limit(1)
)
_KNOWN: Final = "SELECT 1 FROM escalation_case WHERE org = ? AND binding = ? LIMIT 1"
_READ: Final = select(escalation_case).where(_CASE.id == bindparam("case_id"))
_LOCK: Final = _READ.with_for_update()
_RULINGS: Final = (
    select(case_ruling).where(_RULING.case_id == bindparam("case_id")).order_by(_RULING.ruled_at, _RULING.entry_id)
)


def find_case(conn: Connection, organization: str, binding: str) -> Case | None:
    """Return the live case of a binding, else its newest."""
    row = conn.execute(_FIND, {"organization": organization, "binding": binding}).first()
    return None if row is None else _whole(conn, row)


def is_known(reader: Engine, organization: str, binding: str) -> bool:
    """Tell whether a binding ever had a case.

    Every request asks, and nearly none has one: the driver's own cursor costs a tenth of a statement of SQLAlchemy.
    """
    mark = "?" if reader.dialect.paramstyle == "qmark" else "%s"
    connection = reader.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(_KNOWN.replace("?", mark), (organization, binding))
        return cursor.fetchone() is not None
    finally:
        connection.close()


def read_case(conn: Connection, case_id: str) -> Case | None:
    """Return the case."""
    row = conn.execute(_READ, {"case_id": case_id}).first()
    return None if row is None else _whole(conn, row)


def lock_case(conn: Connection, case_id: str) -> Case | None:
    """Return the case, which nobody else can change before the transaction ends."""
    row = conn.execute(_LOCK, {"case_id": case_id}).first()
    return None if row is None else _whole(conn, row)


def list_cases(conn: Connection, organization: str | None, status: Status | None, limit: int) -> list[Case]:
    """Return cases: the pending ones first, then the newest."""
    query = select(escalation_case).order_by((_CASE.status == "pending").desc(), _CASE.id.desc()).limit(limit)
    if organization is not None:
        query = query.where(_CASE.org == organization)
    if status is not None:
        query = query.where(_CASE.status == status)
    rows = conn.execute(query).all()
    rulings: dict[str, list[Ruling]] = {}
    for ids in _pieces([row.id for row in rows]):
        wanted = select(case_ruling).where(_RULING.case_id.in_(ids)).order_by(_RULING.ruled_at, _RULING.entry_id)
        for each in conn.execute(wanted):
            rulings.setdefault(each.case_id, []).append(_ruling(each))
    return [_case(row, tuple(rulings.get(row.id, ()))) for row in rows]


def read_statuses(conn: Connection, case_ids: Collection[str]) -> dict[str, Status]:
    """Return the status of each of these cases."""
    found: dict[str, Status] = {}
    for ids in _pieces(list(case_ids)):
        found |= {row.id: row.status for row in conn.execute(select(_CASE.id, _CASE.status).where(_CASE.id.in_(ids)))}
    return found


def count_pending(conn: Connection, organization: str, key_id: str) -> int:
    """Return how many cases of a key wait for people."""
    query = select(func.count()).where(_CASE.org == organization, _CASE.key_id == key_id, _PENDING)
    return int(conn.execute(query).scalar_one())


def overdue(conn: Connection, now: int, limit: int) -> list[str]:
    """Return the ids of pending cases that are past due, and of approvals that are past their time."""
    due = select(_CASE.id).where(_PENDING, _CASE.due_at <= now).limit(limit)
    stale = select(_CASE.id).where(text("status = 'approved'"), _CASE.expires_at <= now).limit(limit)
    return [*conn.execute(due).scalars(), *conn.execute(stale).scalars()]


def consumed_before(conn: Connection, moment: int, limit: int) -> list[str]:
    """Return the ids of cases that were consumed at ``moment`` or before and are not finished."""
    query = select(_CASE.id).where(text("status = 'consumed'"), _CASE.consumed_at <= moment)
    return list(conn.execute(query.order_by(_CASE.id).limit(limit)).scalars())


def replayed_out(conn: Connection, now: int, limit: int) -> list[tuple[str, str, str]]:
    """Return (case id, organisation, entry id) of stored answers whose time is over."""
    query = select(_CASE.id, _CASE.org, _CASE.answer_entry)
    query = query.where(_CASE.answer_entry.is_not(None), _CASE.replay_until <= now)
    return [(row[0], row[1], row[2]) for row in conn.execute(query.limit(limit))]


def insert_case(conn: Connection, case: Case) -> None:
    """Insert a new case; IntegrityError when its binding has a live one."""
    row = {name: getattr(case, _FIELDS.get(name, name)) for name in _CASE.keys() if name not in _DERIVED}  # noqa: SIM118
    conn.execute(
        insert(escalation_case),
        {**row, "handling": orjson.dumps(asdict(case.handling)).decode(), "approvals": case.handling.approvals},
    )


def insert_ruling(conn: Connection, case: Case, ruling: Ruling) -> None:
    """Insert a reviewer's ruling; IntegrityError when there is one, or the case is not pending."""
    row = {
        "case_id": case.id,
        "reviewer": fold(ruling.by),
        "name": ruling.by,
        "kind": ruling.kind,
        "auth": ruling.auth,
        "ruled_at": ruling.at,
        "lesson": ruling.lesson,
        "entry_id": ruling.entry_id,
    }
    conn.execute(insert(case_ruling), row)


def move_case(conn: Connection, case: Case, status: Status, **changes: Any) -> Case | None:
    """Take an arrow by one compare-and-swap on the status; None when somebody else took one before."""
    statement = (
        update(escalation_case).where(_CASE.id == case.id, _CASE.status == case.status).values(status=status, **changes)
    )
    return replace(case, status=status, **changes) if conn.execute(statement).rowcount == 1 else None


def link_successor(conn: Connection, case: Case, successor: str) -> None:
    """Name the case that took the place of ``case``, unless one is named already."""
    conn.execute(
        update(escalation_case).where(_CASE.id == case.id, _CASE.successor.is_(None)).values(successor=successor)
    )


def forget_answer(conn: Connection, case_id: str, organization: str, entry_id: str) -> bool:
    """Erase a stored answer; tell whether it was still there."""
    cleared = conn.execute(
        update(escalation_case).where(_CASE.id == case_id, _CASE.answer_entry == entry_id).values(answer_entry=None)
    )
    if cleared.rowcount == 1:
        erase_payloads(conn, organization, [entry_id])
    return cleared.rowcount == 1


def read_sealed(conn: Connection, organization: str, entry_id: str, name: str) -> Sealed | None:
    """Return one sealed payload of an entry; None when there is none or it was erased."""
    return next((each for each in read_payloads(conn, organization, entry_id) if each.name == name), None)


_FIELDS: Final = {"org": "organization"}
_DERIVED: Final = {"handling", "approvals"}


def _whole(conn: Connection, row: Row[Any]) -> Case:
    if row.decided_at is None and row.approvals == 1:
        return _case(row, ())
    return _case(row, tuple(_ruling(each) for each in conn.execute(_RULINGS, {"case_id": row.id})))


def _ruling(row: Row[Any]) -> Ruling:
    return Ruling(row.kind, row.name, row.auth, row.ruled_at, row.lesson, row.entry_id)


def _case(row: Row[Any], rulings: tuple[Ruling, ...]) -> Case:
    found = dict(row._mapping)
    found["organization"] = found.pop("org")
    found["stream"] = bool(found["stream"])
    found["handling"] = _handling(found["handling"])
    del found["approvals"]
    return Case(**found, rulings=rulings)


def _handling(stored: str) -> Handling:
    found = orjson.loads(stored)
    targets = tuple(Target(**each) for each in found.pop("targets"))
    return Handling(**found | {"reviewers": tuple(found["reviewers"]), "targets": targets})


def _pieces(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + _MAX_IDS] for at in range(0, len(ids), _MAX_IDS))
