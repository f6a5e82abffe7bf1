"""The database itself refuses every arrow that a case cannot take, and every change of what stands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from gateway.escalation.case import LIVE, RESOLUTIONS, TRANSITIONS, Status
from gateway.store.engine import open_writer, upgrade
from gateway.store.migrations.versions import cases as migration
from gateway.store.schema import case_ruling, escalation_case

STATUSES: tuple[Status, ...] = get_args(Status)
NEW = {
    "id": "c", "org": "acme", "status": "pending", "stage": "request", "endpoint": "/v1/x", "stream": False,
    "key_id": "k", "owner": "Hanako", "request_id": "r", "decision_id": "d", "policy": "p", "revision": "v",
    "handling": "{}", "approvals": 1, "binding": "b", "payload_entry": "e", "opened_at": 1, "due_at": 2,
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "pending": {},
    "approved": {"decided_at": 1, "expires_at": 9},
    "denied": {"decided_at": 1, "finished_at": 1},
    "answered": {"decided_at": 1, "finished_at": 1},
    "expired": {"finished_at": 1, "reason": "due"},
    "withdrawn": {"finished_at": 1, "reason": "policy_changed"},
    "consumed": {"consumed_at": 1},
    "completed": {"finished_at": 1, "replay_until": 9},
    "failed": {"finished_at": 1, "reason": "x"},
    "outcome_unknown": {"finished_at": 1, "reason": "x"},
}
PATHS: dict[str, tuple[Status, ...]] = {
    "pending": (), "approved": ("approved",), "denied": ("denied",), "answered": ("answered",),
    "expired": ("expired",), "withdrawn": ("withdrawn",), "consumed": ("approved", "consumed"),
    "completed": ("approved", "consumed", "completed"), "failed": ("approved", "consumed", "failed"),
    "outcome_unknown": ("approved", "consumed", "outcome_unknown"),
}  # fmt: skip
KINDS = {status: kind for kind, status in RESOLUTIONS.items()}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    engine = open_writer(tmp_path_factory.mktemp("schema") / "gateway.db")
    upgrade(engine)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


@pytest.fixture
def conn(database: Connection) -> Iterator[Connection]:
    with database.begin() as transaction:
        yield database
        transaction.rollback()


def insert(conn: Connection, **changes: Any) -> None:
    conn.execute(escalation_case.insert(), NEW | changes)


def rule(conn: Connection, kind: str, by: str = "sato") -> None:
    row = {"case_id": "c", "reviewer": by, "name": by, "kind": kind, "auth": "console", "ruled_at": 1, "entry_id": "e"}
    conn.execute(case_ruling.insert(), row)


def move(conn: Connection, status: str, **changes: Any) -> None:
    if status in KINDS and conn.execute(select(escalation_case.c.status)).scalar_one() == "pending":
        rule(conn, KINDS[status])
    conn.execute(escalation_case.update().values(status=status, **FIELDS[status], **changes))


def reach(conn: Connection, status: str) -> None:
    insert(conn)
    for each in PATHS[status]:
        move(conn, each)


def refused(conn: Connection, what: str | None = None) -> "pytest.RaisesExc[IntegrityError]":
    return pytest.raises(IntegrityError, match=what)


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_an_arrow_is_possible_exactly_where_the_table_has_it(conn: Connection, before: Status, after: Status) -> None:
    reach(conn, before)
    if after in TRANSITIONS[before]:
        move(conn, after)
    elif before != after:
        with refused(conn, "cannot take this arrow|CHECK"):
            move(conn, after)


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_the_arrow_itself_is_refused_whatever_the_columns_say(conn: Connection, before: Status, after: Status) -> None:
    reach(conn, before)
    if before != after and after not in TRANSITIONS[before]:
        with refused(conn, "cannot take this arrow"):
            conn.exec_driver_sql("UPDATE escalation_case SET status = ?", (after,))


def test_the_migration_says_what_the_case_says() -> None:
    assert {before: set(after) for before, after in migration.ARROWS.items()} == {
        before: set(after) for before, after in TRANSITIONS.items() if after
    }
    columns = set(escalation_case.c.keys())
    assert set(migration.IMMUTABLE) | set(migration.WRITTEN_ONCE) | {"status", "answer_entry"} == columns


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "pending"])
def test_a_case_begins_as_pending(conn: Connection, status: Status) -> None:
    with refused(conn, "begins as pending"):
        insert(conn, status=status, **FIELDS[status])


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("column", migration.IMMUTABLE)
def test_what_a_case_was_opened_with_never_changes(conn: Connection, status: Status, column: str) -> None:
    reach(conn, status)
    with refused(conn):
        conn.execute(escalation_case.update().values({column: column == "stream" or 9}))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("column", migration.WRITTEN_ONCE)
def test_what_happened_never_changes(conn: Connection, status: Status, column: str) -> None:
    reach(conn, status)
    conn.exec_driver_sql("UPDATE escalation_case SET successor = 's'")
    with refused(conn):
        conn.execute(escalation_case.update().values({column: 77}))


@pytest.mark.parametrize("status", STATUSES)
def test_no_case_and_no_ruling_is_deleted(conn: Connection, status: Status) -> None:
    reach(conn, status)
    with refused(conn):
        conn.exec_driver_sql("DELETE FROM escalation_case")
    if conn.execute(select(case_ruling)).first() is not None:
        with refused(conn, "never deleted"):
            conn.exec_driver_sql("DELETE FROM case_ruling")


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "pending"])
def test_rulings_are_for_pending_cases_and_stay(conn: Connection, status: Status) -> None:
    reach(conn, status)
    with refused(conn, "not pending"):
        rule(conn, "approve", "mori")
    if conn.execute(select(case_ruling)).first() is not None:
        with refused(conn, "never changes"):
            conn.exec_driver_sql("UPDATE case_ruling SET kind = 'deny'")


def test_one_reviewer_rules_once(conn: Connection) -> None:
    insert(conn, approvals=2)
    rule(conn, "approve")
    with refused(conn, "UNIQUE"):
        rule(conn, "deny")


@pytest.mark.parametrize("kinds", [(), ("approve",), ("deny",), ("approve", "deny"), ("approve", "answer")])
def test_two_approvals_are_two(conn: Connection, kinds: tuple[str, ...]) -> None:
    insert(conn, approvals=2)
    for number, kind in enumerate(kinds):
        rule(conn, kind, f"reviewer {number}")
    with refused(conn, "needs its approvals"):
        conn.exec_driver_sql("UPDATE escalation_case SET status = 'approved', decided_at = 1, expires_at = 9")


@pytest.mark.parametrize("status", ["denied", "answered"])
def test_a_resolution_needs_its_ruling(conn: Connection, status: str) -> None:
    insert(conn)
    rule(conn, "approve")
    with refused(conn, "needs a ruling"):
        conn.execute(escalation_case.update().values(status=status, **FIELDS[status]))


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_binding_has_one_live_case(conn: Connection, status: Status) -> None:
    reach(conn, status)
    with refused(conn, "UNIQUE"):
        insert(conn, id="other")
    insert(conn, id="foreign", org="beta")


def test_an_answer_is_stored_once_and_can_be_erased(conn: Connection) -> None:
    reach(conn, "consumed")
    with refused(conn):
        conn.exec_driver_sql("UPDATE escalation_case SET answer_entry = 'x'")
    move(conn, "completed", answer_entry="x")
    with refused(conn, "stored once"):
        conn.exec_driver_sql("UPDATE escalation_case SET answer_entry = 'y'")
    conn.exec_driver_sql("UPDATE escalation_case SET answer_entry = NULL")
    with refused(conn, "stored once"):
        conn.exec_driver_sql("UPDATE escalation_case SET answer_entry = 'x'")


@pytest.mark.parametrize(
    "wrong",
    [{"stage": "response"}, {"reply_digest": "x"}, {"approvals": 0}, {"due_at": 0}, {"decided_at": 1}, {"reason": "x"},
     {"stage": "other"}, {"finished_at": 1}, {"consumed_at": 1}, {"expires_at": 1}, {"replay_until": 1}],
)  # fmt: skip
def test_a_case_that_contradicts_itself_is_refused(conn: Connection, wrong: dict[str, Any]) -> None:
    with refused(conn, "CHECK"):
        insert(conn, **wrong)


def test_it_compiles_for_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in (escalation_case, case_ruling):
        assert "CHECK" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))
    case_guard, *others = migration.postgresql_triggers()
    for column in migration.IMMUTABLE:
        assert f"NEW.{column} IS DISTINCT FROM OLD.{column}" in case_guard
    assert case_guard.count("(") == case_guard.count(")")
    assert case_guard.count("IF ") == case_guard.count("END IF")
    assert len(others) == 3


def test_an_upgrade_keeps_what_was_there(tmp_path: Path) -> None:
    engine = open_writer(tmp_path / "gateway.db")
    upgrade(engine)
    with engine.connect() as conn, conn.begin():
        insert(conn)
    upgrade(engine)
    with engine.connect() as conn:
        assert conn.execute(select(escalation_case.c.id)).scalar_one() == "c"
    engine.dispose()
