"""The outbox: leases, fences, lanes, and an entry for each end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from audit.entry import read_entry
from audit.tables import audit_leaf
from gateway.escalation.case import Target
from gateway.escalation.cases import Cases
from gateway.escalation.outbox import CANDIDATES, LEASE_MS, Outbox, Problem, add_deliveries
from gateway.store.directory import DataDirectory
from gateway.store.schema import delivery
from gateway.store.store import Store
from tests.gateway.escalation.notifying import opening

MAIL, SLACK, HOOK = Target("email", "a@example.org"), Target("slack", "SLACK_URL"), Target("webhook", "HOOK")


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_549_557_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(DataDirectory(tmp_path / "data")) as store:
        yield store


@pytest.fixture
def outbox(store: Store, clock: Clock) -> Outbox:
    return Outbox(store.reader, store.writer, store.trail, clock=clock)


@pytest.fixture
def cases(store: Store, clock: Clock) -> Cases:
    return Cases(store.reader, store.writer, store.trail, clock=clock)


def rows(store: Store) -> list[Any]:
    with store.reader.connect() as conn:
        return list(conn.execute(select(delivery).order_by(delivery.c.channel, delivery.c.id)))


def events(store: Store) -> list[dict[str, Any]]:
    with store.reader.connect() as conn:
        leaves = conn.scalars(select(audit_leaf.c.leaf).order_by(audit_leaf.c.idx))
        return [entry for entry in map(read_entry, leaves) if entry["ev"].startswith("deliver")]


async def test_a_case_is_opened_with_one_delivery_a_target(store: Store, cases: Cases, clock: Clock) -> None:
    case = await cases.open(opening(MAIL, SLACK, MAIL))
    assert [(row.case_id, row.kind, row.channel, row.target, row.state, row.next_at) for row in rows(store)] == [
        (case.id, "opened", "email", "a@example.org", "waiting", clock.now),
        (case.id, "opened", "slack", "SLACK_URL", "waiting", clock.now),
    ]


async def test_the_same_notice_cannot_be_written_twice(store: Store, cases: Cases) -> None:
    case = await cases.open(opening(MAIL))
    with pytest.raises(IntegrityError):
        await store.writer.submit(lambda conn: add_deliveries(conn, "acme", case.id, "opened", [MAIL], 0))
    assert len(rows(store)) == 1


async def test_what_is_leased_is_not_claimed_until_the_lease_lapses(
    cases: Cases, outbox: Outbox, clock: Clock, store: Store
) -> None:
    await cases.open(opening(MAIL))
    (first,) = await outbox.claim(10)
    assert await outbox.claim(10) == []
    assert outbox.next_at() == first.lease_until == clock.now + LEASE_MS
    clock.now += LEASE_MS
    (second,) = await outbox.claim(10)
    assert (second.id, second.attempts) == (first.id, 2)
    assert not await outbox.delivered(first)
    assert not await outbox.dead(first, "http_500")
    assert events(store) == []
    assert await outbox.delivered(second)
    assert not await outbox.retry(second, "timeout", 0)
    assert [row.state for row in rows(store)] == ["delivered"]
    assert outbox.next_at() is None


async def test_each_end_has_its_entry(cases: Cases, outbox: Outbox, store: Store) -> None:
    case = await cases.open(opening(MAIL, SLACK))
    mail, slack = sorted(await outbox.claim(10), key=lambda due: due.channel)
    await outbox.delivered(mail)
    await outbox.dead(slack, "http_404")
    common = {"case": case.id, "kind": "opened", "attempts": 1}
    told = [{name: entry[name] for name in entry if name not in ("v", "id", "t", "org")} for entry in events(store)]
    assert told == [
        {"ev": "delivered", "delivery": mail.id, "channel": "email", **common},
        {"ev": "delivery_dead", "delivery": slack.id, "channel": "slack", "error": "http_404", **common},
    ]


async def test_a_retry_waits_for_its_time(cases: Cases, outbox: Outbox, clock: Clock) -> None:
    await cases.open(opening(MAIL))
    (due,) = await outbox.claim(10)
    assert await outbox.retry(due, "timeout", clock.now + 5000)
    clock.now += 4999
    assert await outbox.claim(10) == []
    clock.now += 1
    (again,) = await outbox.claim(10)
    assert (again.id, again.attempts) == (due.id, 2)
    await outbox.release(again)
    assert [due.attempts for due in await outbox.claim(10)] == [2]


async def test_one_receiver_never_takes_all_places(cases: Cases, outbox: Outbox) -> None:
    for _ in range(6):
        await cases.open(opening(HOOK, SLACK))
    taken = await outbox.claim(6, per_lane=2, busy={"slack:SLACK_URL": 1})
    assert sorted(due.channel for due in taken) == ["slack", "webhook", "webhook"]
    assert outbox.next_at(["slack:SLACK_URL", "webhook:HOOK"]) is None


async def test_all_mail_is_one_lane_and_others_are_found_behind_it(
    store: Store, cases: Cases, outbox: Outbox, clock: Clock
) -> None:
    case = await cases.open(opening())
    many = [Target("email", f"a{number}@example.org") for number in range(CANDIDATES + 5)]
    await store.writer.submit(lambda conn: add_deliveries(conn, "acme", case.id, "opened", [*many, HOOK], clock.now))
    assert [due.lane for due in await outbox.claim(10, per_lane=2)] == ["email", "email"]
    assert [due.lane for due in await outbox.claim(8, per_lane=2, busy={"email": 2})] == ["webhook:HOOK"]


async def test_problems_name_the_cases_that_nobody_was_told_of(cases: Cases, outbox: Outbox) -> None:
    first = await cases.open(opening(MAIL, SLACK))
    second = await cases.open(opening(MAIL, organization="other"))
    for due in await outbox.claim(10):
        if due.channel == "email":
            await outbox.dead(due, "smtp_550")
    assert outbox.problems() == [
        Problem("acme", first.id, {"email": "smtp_550"}, False),
        Problem("other", second.id, {"email": "smtp_550"}, True),
    ]
    assert outbox.problems("acme") == [Problem("acme", first.id, {"email": "smtp_550"}, False)]
    assert (outbox.unreachable(first.id), outbox.unreachable(second.id)) == (False, True)
    await cases.withdraw(second.id, "policy_changed")
    assert [problem.case_id for problem in outbox.problems()] == [first.id]


@pytest.mark.parametrize(
    "values",
    [
        {"state": "gone"},
        {"state": "leased"},
        {"lease_until": 5},
        {"state": "delivered"},
        {"state": "dead"},
        {"delivered_at": 5},
    ],
)
async def test_the_schema_refuses_rows_that_contradict_themselves(
    store: Store, cases: Cases, values: dict[str, Any]
) -> None:
    await cases.open(opening(MAIL))
    with pytest.raises(IntegrityError):
        await store.writer.submit(lambda conn: conn.execute(delivery.update().values(**values)).rowcount)
