"""The delivery, with real channels and real receivers: nothing is lost, whatever fails, hangs or restarts."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from audit.entry import read_entry
from audit.tables import audit_leaf
from gateway.escalation import outbox as outbox_module
from gateway.escalation.case import Case, Reviewer, Target
from gateway.escalation.cases import Cases
from gateway.escalation.channels import Channel, create_channels
from gateway.escalation.channels.email import EmailChannel
from gateway.escalation.channels.slack import SlackChannel
from gateway.escalation.channels.webhook import WebhookChannel
from gateway.escalation.delivery import Delivery
from gateway.escalation.outbox import Outbox
from gateway.escalation.schedule import Schedule
from gateway.settings import Settings, SmtpSettings
from gateway.store.directory import DataDirectory
from gateway.store.schema import delivery as table
from gateway.store.store import Store
from tests.gateway.escalation.notifying import SECRET_TEXT, opening
from tests.gateway.escalation.sinks import Hit, HttpSink, MailSink

MAIL, SLACK, HOOK = Target("email", "a@example.org"), Target("slack", "SLACK_URL"), Target("webhook", "HOOK")
HOOK_SECRET = "whsec_" + "MDEy" * 8
FAST = {name: Schedule((0.02, 0.05, 0.1), 0.1) for name in ("opened", "decided")}
GIVES_UP = {name: Schedule((0.01,), None) for name in ("opened", "decided")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(DataDirectory(tmp_path / "data")) as store:
        yield store


@pytest.fixture
def cases(store: Store) -> Cases:
    return Cases(store.reader, store.writer, store.trail)


@asynccontextmanager
async def delivering(
    store: Store, cases: Cases, channels: Mapping[str, Channel], **options: Any
) -> AsyncIterator[Delivery]:
    outbox = Outbox(store.reader, store.writer, store.trail)
    worker = Delivery(
        outbox, cases, channels, console_url="https://so8t.example.org/", **({"schedules": FAST} | options)
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


def states(store: Store, kind: str = "opened") -> dict[str, int]:
    query = select(table.c.state, func.count()).where(table.c.kind == kind).group_by(table.c.state)
    with store.reader.connect() as conn:
        return {row[0]: row[1] for row in conn.execute(query)}


def events(store: Store, event: str) -> list[dict[str, Any]]:
    with store.reader.connect() as conn:
        leaves = conn.scalars(select(audit_leaf.c.leaf).order_by(audit_leaf.c.idx))
        return [entry for entry in map(read_entry, leaves) if entry["ev"] == event]


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_case_reaches_every_channel_at_once_and_says_nothing_of_the_request(store: Store, cases: Cases) -> None:
    async with MailSink() as mail, HttpSink() as http:
        environment = {"SLACK_URL": http.url("/slack"), "HOOK": http.url("/hook"), "HOOK_SECRET": HOOK_SECRET}
        channels = create_channels(Settings(smtp=mail.settings()), environment)
        async with delivering(store, cases, channels):
            started = time.monotonic()
            case = await cases.open(opening(MAIL, SLACK, HOOK, language="ja"))
            await until(lambda: states(store) == {"delivered": 3})
            assert time.monotonic() - started < 10
    sent = [mail.mails[0].as_bytes(), *(hit.body for hit in http.hits)]
    assert len(sent) == 3
    assert all(SECRET_TEXT.encode() not in each for each in sent)
    assert all(f"https://so8t.example.org/console/cases/{case.id}".encode() in hit.body for hit in http.hits)
    assert {entry["channel"] for entry in events(store, "delivered")} == {"email", "slack", "webhook"}
    assert all(entry["case"] == case.id for entry in events(store, "delivered"))


async def test_without_a_mail_server_mail_is_dead_at_once(store: Store, cases: Cases) -> None:
    async with delivering(store, cases, create_channels(Settings(smtp=SmtpSettings()), {})) as worker:
        case = await cases.open(opening(MAIL))
        await until(lambda: states(store) == {"dead": 1})
        (problem,) = worker.problems()
        assert (problem.case_id, problem.errors, problem.unreachable) == (case.id, {"email": "not_configured"}, True)
    assert [entry["error"] for entry in events(store, "delivery_dead")] == ["not_configured"]


@pytest.mark.parametrize("policy", ["wait", "refuse"])
async def test_a_case_that_nobody_can_be_told_of(
    store: Store, cases: Cases, policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with HttpSink(lambda *_: (404, {})) as http:
        environment = {"SLACK_URL": http.url("/secret-path")}
        with caplog.at_level(logging.WARNING):
            async with delivering(store, cases, {"slack": SlackChannel(environment)}) as worker:
                case = await cases.open(opening(SLACK, on_unreachable=policy))
                if policy == "refuse":
                    case = await cases.changed(case, 20)
                    assert (case.status, case.reason) == ("expired", "unreachable")
                    assert worker.problems() == []
                else:
                    await until(lambda: [problem.unreachable for problem in worker.problems()] == [True])
                    found = await cases.get(case.id)
                    assert found is not None
                    assert found.status == "pending"
    assert any(record.levelno == logging.ERROR and "nobody can be told" in record.message for record in caplog.records)
    assert "secret-path" not in caplog.text


async def test_one_living_channel_is_enough(store: Store, cases: Cases) -> None:
    async with HttpSink(lambda *_: (410, {})) as http, MailSink() as mail:
        channels: dict[str, Channel] = {
            "slack": SlackChannel({"SLACK_URL": http.url()}),
            "email": EmailChannel(mail.settings()),
        }
        async with delivering(store, cases, channels) as worker:
            case = await cases.open(opening(SLACK, MAIL, on_unreachable="refuse"))
            await until(lambda: states(store) == {"dead": 1, "delivered": 1})
            assert [problem.unreachable for problem in worker.problems()] == [False]
            found = await cases.get(case.id)
            assert found is not None
            assert found.status == "pending"


async def test_tries_end(store: Store, cases: Cases) -> None:
    async with HttpSink(lambda *_: (500, {})) as http:
        channels = {"slack": SlackChannel({"SLACK_URL": http.url()})}
        async with delivering(store, cases, channels, schedules=GIVES_UP):
            await cases.open(opening(SLACK))
            await until(lambda: states(store) == {"dead": 1})
    assert len(http.hits) == 2
    assert [(entry["error"], entry["attempts"]) for entry in events(store, "delivery_dead")] == [("http_500", 2)]


async def test_what_waits_is_dropped_once_the_case_is_over(store: Store, cases: Cases) -> None:
    async with HttpSink(lambda *_: (503, {"retry-after": "600"})) as http:
        channels = {"slack": SlackChannel({"SLACK_URL": http.url()})}
        async with delivering(store, cases, channels):
            case = await cases.open(opening(SLACK))
            await until(lambda: states(store) == {"waiting": 1} and len(http.hits) == 1)
            await cases.withdraw(case.id, "policy_changed")
            await until(lambda: states(store) == {"dropped": 1})


async def test_a_channel_that_many_read_is_told_how_a_case_ended(store: Store, cases: Cases) -> None:
    async with HttpSink() as http:
        environment = {"HOOK": http.url(), "HOOK_SECRET": HOOK_SECRET}
        async with delivering(store, cases, {"webhook": WebhookChannel(environment)}):
            case = await cases.open(opening(HOOK))
            await until(lambda: states(store) == {"delivered": 1})
            await cases.rule(case.id, Reviewer("bob", "acme"), "deny")
            await until(lambda: states(store, "decided") == {"delivered": 1})
    assert b'"outcome":"denied"' in http.hits[1].body
    assert http.hits[0].headers["webhook-id"] != http.hits[1].headers["webhook-id"]


async def test_a_receiver_that_hangs_delays_only_its_own(
    store: Store, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.escalation.delivery.CLOSE_S", 0.1)

    def answer(hit: Hit, _: int) -> tuple[int, dict[str, str]] | None:
        return None if hit.path == "/hangs" else (200, {})

    async with HttpSink(answer) as http:
        environment = {
            "SLOW": http.url("/hangs"),
            "SLOW_SECRET": HOOK_SECRET,
            "HOOK": http.url(),
            "HOOK_SECRET": HOOK_SECRET,
        }
        channels = {"webhook": WebhookChannel(environment, timeout_s=30)}
        async with delivering(store, cases, channels, concurrency=4, per_lane=2):
            for _ in range(6):
                await cases.open(opening(Target("webhook", "SLOW")))
            await cases.open(opening(HOOK))
            await until(lambda: http.counts["/hook"] == 1, 15)
            assert http.counts["/hangs"] == 2


async def test_closing_gives_back_what_is_on_its_way(
    store: Store, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.escalation.delivery.CLOSE_S", 0.1)
    async with HttpSink(lambda *_: None) as http:
        async with delivering(store, cases, {"slack": SlackChannel({"SLACK_URL": http.url()}, timeout_s=30)}):
            await cases.open(opening(SLACK))
            await until(lambda: len(http.hits) == 1)
        assert states(store) == {"waiting": 1}


async def _storm(
    store: Store, count: int, monkeypatch: pytest.MonkeyPatch, *, restarts: int
) -> tuple[list[Case], HttpSink]:
    """Deliver ``count`` cases to a receiver that fails and hangs, with a worker that is killed again and again."""
    monkeypatch.setattr(outbox_module, "LEASE_MS", 5000)
    monkeypatch.setattr("gateway.escalation.delivery.LOOK_S", 0.2)
    dice = random.Random(8)

    def answer(_: Hit, __: int) -> tuple[int, dict[str, str]] | None:
        roll = dice.random()
        if roll < 0.10:
            return None
        return (503, {}) if roll < 0.30 else (200, {})

    cases = Cases(store.reader, store.writer, store.trail, open_per_key=count)
    async with HttpSink(answer) as http:
        environment = {"HOOK": http.url(), "HOOK_SECRET": HOOK_SECRET}

        def worker() -> Delivery:
            return Delivery(
                Outbox(store.reader, store.writer, store.trail),
                cases,
                {"webhook": WebhookChannel(environment, timeout_s=1.0)},
                console_url="http://localhost",
                schedules=FAST,
                concurrency=32,
                per_lane=32,
            )

        opened = []
        for _ in range(restarts):
            opened += [await cases.open(opening(HOOK)) for _ in range(count // restarts)]
            first = worker()
            await first.start()
            await asyncio.sleep(0.15)
            _crash(first)
            await asyncio.sleep(0)
            for channel in first._channels.values():
                await channel.close()
        last = worker()
        await last.start()
        await until(lambda: states(store) == {"delivered": len(opened)}, 240)
        await last.close()
    return opened, http


def _crash(worker: Delivery) -> None:
    """Stop a worker as a kill would: nothing it was about to write is written."""

    async def lost(*_: object) -> bool:
        return False

    worker._outbox.release = lost  # type: ignore[method-assign, assignment]
    assert worker._loop is not None
    worker._loop.cancel()
    for task in worker._sending:
        task.cancel()


def _check(opened: list[Case], http: HttpSink) -> None:
    by_case: dict[str, set[str]] = {}
    for hit in http.hits:
        case_id = hit.body.decode().split('"case":"')[1][:36]
        by_case.setdefault(case_id, set()).add(hit.headers["webhook-id"])
    assert by_case.keys() == {case.id for case in opened}
    assert all(len(ids) == 1 for ids in by_case.values())
    assert len(http.hits) > len(opened)


async def test_nothing_is_lost_to_failures_hangs_and_restarts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, http = await _storm(store, 120, monkeypatch, restarts=3)
    assert len(opened) == 120
    _check(opened, http)
    assert len(events(store, "delivered")) == 120


@pytest.mark.soak
async def test_nothing_is_lost_of_500(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, http = await _storm(store, 500, monkeypatch, restarts=10)
    assert len(opened) == 500
    _check(opened, http)
