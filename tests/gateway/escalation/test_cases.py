"""Cases: each step is durable with its entry, an approval is used once, and what a re-sent request finds."""

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import EntryError
from gateway.errors import CaseNotFound, CaseStateError, TooManyCases
from gateway.escalation.case import Case, Handling, StoredAnswer
from gateway.escalation.cases import SWEEP
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.records import Administrator
from gateway.store.store import Store
from tests.gateway.escalation.desk import ANSWER, ENDPOINT, HANAKO, OTHER, REVIEWER, REVISION, Desk, opening
from tests.gateway.store.entries import verify


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store(DataDirectory(tmp_path / "data")) as store:
        yield Desk(store)


async def test_a_binding_is_of_exactly_one_request(desk: Desk) -> None:
    body = b'{"model":"m"}'
    first = await desk.cases.binding(HANAKO, ENDPOINT, body, None)
    assert first == await desk.beside().binding(HANAKO, ENDPOINT, body, None)
    assert first.startswith("h1:")
    others = [
        await desk.cases.binding(Principal("beta", "ab12cd34", "Hanako"), ENDPOINT, body, None),
        await desk.cases.binding(Principal("acme", "zz12cd34", "Hanako"), ENDPOINT, body, None),
        await desk.cases.binding(HANAKO, "/v1/responses", body, None),
        await desk.cases.binding(HANAKO, ENDPOINT, body + b" ", None),
        await desk.cases.binding(HANAKO, ENDPOINT, body, ""),
        await desk.cases.binding(HANAKO, ENDPOINT, body, "once"),
    ]
    assert len({first, *others}) == 7


async def test_opening_writes_case_entries_notices_and_payloads_at_once(desk: Desk) -> None:
    large = b"x" * 100_000
    asked = opening(subject="Taro", payloads={"request": large, "asked": b"{}"}, stream=True)
    case = await desk.cases.open(asked)
    assert case == await desk.cases.get(case.id)
    assert (case.status, case.organization, case.owner, case.stream) == ("pending", "acme", "Hanako", True)
    assert case.handling == asked.handling
    assert case.due_at == case.opened_at + 1_800_000
    assert case.subject is not None
    assert case.subject.startswith("h1:")
    assert desk.events(case.id) == ["decision", "case_opened"]
    assert desk.events(asked.decision.id) == ["decision", "case_opened"]
    assert "medical-desk" in str(desk.story(case.id))
    assert desk.notices(case) == [("opened", "ACME_HOOK"), ("opened", "duty@acme.example")]
    assert await desk.cases.payload(case, "request") == large
    assert await desk.cases.payload(case, "asked") == b"{}"
    assert await desk.cases.payload(case, "reply") is None
    assert desk.moved == [case]


async def test_nothing_of_the_request_stands_in_the_entries(desk: Desk) -> None:
    case = await desk.cases.open(opening(payloads={"request": b"chest pain"}, subject="Taro"))
    await desk.cases.rule(case.id, REVIEWER, "answer", text="see a doctor")
    with desk.store.reader.connect() as conn:
        leaves = b"".join(row[0] for row in conn.exec_driver_sql("SELECT leaf FROM audit_leaf"))
    assert not [word for word in (b"chest", b"doctor", b"Taro", b"Sato", b"Hanako") if word in leaves]


async def test_a_live_case_of_the_same_binding_is_returned(desk: Desk) -> None:
    case, *others = await asyncio.gather(*(desk.cases.open(opening()) for _ in range(20)))
    assert {each.id for each in others} == {case.id}
    assert len(desk.cases.listing()) == 1
    assert desk.events(case.id).count("decision") == 20
    assert desk.events(case.id).count("case_opened") == 1
    assert len(desk.notices(case)) == 2
    assert len(desk.moved) == 1


async def test_a_key_has_its_fill_of_pending_cases(desk: Desk) -> None:
    desk.options["open_per_key"] = 2
    cases = desk.beside()
    first = await cases.open(opening("h1:a"))
    await cases.open(opening("h1:b"))
    late = opening("h1:c")
    with pytest.raises(TooManyCases) as refused:
        await cases.open(late)
    assert refused.value.decision_id == late.decision.id
    assert refused.value.limit == 2
    assert desk.events(late.decision.id) == ["decision"]
    assert await cases.find("acme", "h1:c") is None
    await cases.open(opening("h1:c", principal=replace(HANAKO, key_id="zz12cd34")))
    await cases.rule(first.id, REVIEWER, "approve")
    await cases.open(late)


async def test_a_predecessor_must_be_a_case_of_the_organisation(desk: Desk) -> None:
    foreign = await desk.cases.open(opening(principal=Principal("beta", "ab12cd34", "Hanako")))
    for predecessor in (foreign.id, "0199f3a0-0000-7000-8000-000000000001"):
        with pytest.raises(CaseNotFound):
            await desk.cases.open(opening(predecessor=predecessor))
    assert desk.cases.listing("acme") == []


async def test_a_policy_change_withdraws_and_opens_a_linked_successor(desk: Desk) -> None:
    desk.options["open_per_key"] = 0
    old = await desk.approved()
    assert await desk.cases.consume(old.id, "sha256:" + "2" * 64) is None
    withdrawn = await desk.cases.withdraw(old.id, "policy_changed")
    assert withdrawn is not None
    assert (withdrawn.status, withdrawn.reason) == ("withdrawn", "policy_changed")
    assert await desk.cases.find("acme", "h1:a") == withdrawn
    new = await desk.beside().open(opening(predecessor=old.id))
    found = await desk.cases.get(old.id)
    assert found is not None
    assert found.successor == new.id
    assert new.predecessor == old.id
    assert await desk.cases.find("acme", "h1:a") == new
    assert await desk.cases.withdraw(old.id, "again") is None
    assert await desk.cases.withdraw("nobody", "again") is None


async def test_a_reply_that_escalates_takes_over_from_the_request(desk: Desk) -> None:
    request = await desk.consumed()
    reply = await desk.cases.open(opening(stage="response", predecessor=request.id, payloads={"reply": b"{}"}))
    done = await desk.cases.get(request.id)
    assert done is not None
    assert (done.status, done.successor, done.reason) == ("completed", reply.id, "escalated_again")
    assert await desk.cases.answer(done) is None
    assert await desk.cases.find("acme", "h1:a") == reply
    assert [case.status for case in desk.moved[-2:]] == ["completed", "pending"]
    await desk.cases.rule(reply.id, REVIEWER, "deny")
    found = await desk.cases.find("acme", "h1:a")
    assert found is not None
    assert found.id == reply.id


async def test_approve_consume_complete_and_replay(desk: Desk) -> None:
    case = await desk.approved()
    assert (case.status, case.decided_at, case.expires_at) == (
        "approved",
        desk.clock.now,
        desk.clock.now + 3_600_000,
    )
    used = await desk.cases.consume(case.id, REVISION)
    assert used is not None
    assert used.status == "consumed"
    assert await desk.cases.answer(used) is None
    done = await desk.cases.complete(case.id, ANSWER)
    assert done == await desk.cases.get(case.id)
    assert await desk.cases.answer(done) == ANSWER
    assert await desk.cases.find("acme", "h1:a") == done
    assert desk.events(case.id) == [
        "decision", "case_opened", "case_ruled", "case:approved", "case:consumed", "case:completed",
    ]  # fmt: skip
    assert desk.notices(case) == [
        ("opened", "ACME_HOOK"), ("opened", "duty@acme.example"), ("decided", "ACME_HOOK"),
    ]  # fmt: skip
    assert [each.status for each in desk.moved] == ["pending", "approved", "consumed", "completed"]
    desk.clock.turn(600)
    assert await desk.cases.answer(done) is None
    assert await desk.cases.find("acme", "h1:a") is None
    assert await desk.cases.expire() == []
    with desk.store.reader.connect() as conn:
        left = conn.exec_driver_sql("SELECT count(*) FROM vault_record WHERE name = 'answer'").scalar_one()
    assert left == 0
    assert desk.latest() == {"entries": [done.answer_entry], "ground": "replay_over", "auth": "gateway"}
    again = await desk.cases.get(case.id)
    assert again is not None
    assert (again.status, again.answer_entry) == ("completed", None)
    desk.store.publisher.close()
    assert verify(desk.store.directory, "acme").holds


async def test_the_same_request_may_be_asked_again_afterwards(desk: Desk) -> None:
    await desk.cases.complete((await desk.consumed()).id, ANSWER)
    desk.clock.turn(600)
    case = await desk.cases.open(opening())
    assert await desk.cases.find("acme", "h1:a") == case


async def test_sixty_four_at_once_consume_one_approval(desk: Desk) -> None:
    case = await desk.approved()
    replicas = [desk.beside() for _ in range(64)]
    used = await asyncio.gather(*(each.consume(case.id, REVISION) for each in replicas))
    assert sum(each is not None for each in used) == 1
    assert desk.events(case.id).count("case:consumed") == 1


async def test_an_approval_is_used_only_in_time(desk: Desk) -> None:
    case = await desk.approved()
    assert await desk.cases.consume("nobody", REVISION) is None
    desk.clock.turn(3600)
    assert await desk.cases.consume(case.id, REVISION) is None
    (expired,) = await desk.cases.expire()
    assert (expired.status, expired.reason) == ("expired", "unused")
    other = await desk.approved("h1:b")
    desk.clock.turn(3599.999)
    assert await desk.cases.consume(other.id, REVISION) is not None


async def test_what_nobody_decides_expires_and_is_told_for_a_while(desk: Desk) -> None:
    case = await desk.cases.open(opening())
    assert await desk.cases.expire() == []
    desk.clock.turn(1800)
    with pytest.raises(CaseStateError, match="expired") as late:
        await desk.cases.rule(case.id, REVIEWER, "approve")
    assert late.value.case_status == "expired"
    assert desk.events(case.id)[-1] == "case:expired"
    assert await desk.cases.expire() == []
    found = await desk.cases.find("acme", "h1:a")
    assert found is not None
    assert (found.status, found.reason) == ("expired", "due")
    desk.clock.turn(600)
    assert await desk.cases.find("acme", "h1:a") is None


async def test_many_expire_in_one_call(desk: Desk) -> None:
    count = SWEEP + 4
    desk.options["open_per_key"] = count
    cases = desk.beside()
    await asyncio.gather(*(cases.open(opening(f"h1:{number}")) for number in range(count)))
    desk.clock.turn(1800)
    assert len({case.id for case in await cases.expire()}) == count
    assert len(cases.listing("acme", "expired", 1000)) == count


async def test_a_denial_and_an_answer_are_remembered(desk: Desk) -> None:
    denied = await desk.cases.open(opening("h1:a"))
    denied = await desk.cases.rule(denied.id, REVIEWER, "deny", text="no", lesson="refuse")
    answered = await desk.cases.open(opening("h1:b"))
    answered = await desk.cases.rule(answered.id, REVIEWER, "answer", text="はい")
    assert (denied.status, answered.status) == ("denied", "answered")
    assert await desk.cases.payload(answered, "answer") == "はい".encode()
    assert await desk.cases.payload(denied, "answer") is None
    assert await desk.cases.text(denied, denied.rulings[0]) == "no"
    assert denied.rulings[0].lesson == "refuse"
    desk.clock.turn(86399)
    assert await desk.cases.find("acme", "h1:a") == denied
    assert await desk.cases.find("acme", "h1:b") == answered
    desk.clock.turn(1)
    assert await desk.cases.find("acme", "h1:a") is None
    assert await desk.cases.find("acme", "h1:b") is None


async def test_a_failure_is_judged_anew_and_an_unknown_outcome_is_decided_by_people(desk: Desk) -> None:
    failed = await desk.cases.fail((await desk.consumed("h1:a")).id, "unreachable")
    assert (failed.status, failed.reason, failed.successor) == ("failed", "unreachable", None)
    assert await desk.cases.find("acme", "h1:a") is None
    lost = await desk.cases.fail((await desk.consumed("h1:b")).id, "timeout", unknown=True)
    assert lost.status == "outcome_unknown"
    successor = await desk.cases.find("acme", "h1:b")
    assert successor is not None
    assert (successor.id, successor.predecessor, successor.status) == (lost.successor, lost.id, "pending")
    assert await desk.cases.payload(successor, "request") == b'{"q":1}'
    assert successor.handling == lost.handling
    assert successor.rulings == ()
    assert len(desk.notices(successor)) == 2
    assert await desk.cases.consume(successor.id, REVISION) is None


async def test_recovery_asks_people_about_everything_that_was_under_way(desk: Desk) -> None:
    cases = [await desk.consumed(f"h1:{number}") for number in range(5)]
    waiting = await desk.cases.open(opening("h1:w"))
    assert await desk.beside().recover(older_than_s=60) == []
    successors = await desk.beside().recover()
    assert [each.predecessor for each in successors] == [each.id for each in cases]
    assert {each.status for each in successors} == {"pending"}
    assert [case.status for case in desk.cases.listing(status="outcome_unknown")] == ["outcome_unknown"] * 5
    assert desk.cases.listing(status="outcome_unknown")[0].reason == "crash"
    assert await desk.cases.get(waiting.id) == waiting
    assert await desk.cases.recover() == []


@pytest.mark.parametrize("status", ["pending", "approved", "completed"])
async def test_only_a_consumed_case_is_finished(desk: Desk, status: str) -> None:
    case = await desk.cases.open(opening()) if status == "pending" else await desk.approved()
    if status == "completed":
        await desk.cases.consume(case.id, REVISION)
        await desk.cases.complete(case.id, ANSWER)
    attempts: list[Awaitable[object]] = [
        desk.cases.complete(case.id, ANSWER),
        desk.cases.fail(case.id, "unreachable"),
        desk.cases.fail(case.id, "timeout", unknown=True),
    ]
    for attempt in attempts:
        with pytest.raises(CaseStateError) as error:
            await attempt
        assert error.value.case_status == status
    assert len(desk.events(case.id)) == {"pending": 2, "approved": 4, "completed": 6}[status]


async def test_a_case_that_is_not_there(desk: Desk) -> None:
    nobody = replace(await desk.cases.open(opening()), id="nobody")
    assert await desk.cases.get("nobody") is None
    attempts: list[Awaitable[object]] = [
        desk.cases.rule("nobody", REVIEWER, "approve"),
        desk.cases.complete("nobody", ANSWER),
        desk.cases.fail("nobody", "x"),
        desk.cases.fail("nobody", "x", unknown=True),
        desk.cases.changed(nobody, 0),
    ]
    for attempt in attempts:
        with pytest.raises(CaseNotFound, match="nobody"):
            await attempt


async def test_a_reason_is_a_closed_word(desk: Desk) -> None:
    case = await desk.cases.open(opening())
    with pytest.raises(EntryError):
        await desk.cases.withdraw(case.id, "Because the user said so")
    assert await desk.cases.get(case.id) == case


async def test_giving_up_what_nobody_can_be_told_of(desk: Desk) -> None:
    case = await desk.cases.open(opening())
    ended = await desk.cases.give_up(case.id, "unreachable")
    assert ended is not None
    assert (ended.status, ended.reason) == ("expired", "unreachable")
    assert len(desk.notices(case)) == 2
    assert await desk.cases.give_up(case.id, "unreachable") is None
    assert await desk.cases.give_up((await desk.approved("h1:b")).id, "unreachable") is None


async def test_erased_payloads_are_gone_from_the_case_and_its_successor(desk: Desk) -> None:
    case = await desk.consumed(subject="Taro")
    await desk.cases.complete(case.id, ANSWER)
    entries = await desk.store.trail.entries_about("acme", "Taro")
    assert len(entries) >= 2
    await desk.store.trail.erase("acme", entries, ground="request", by=Administrator("root"))
    done = await desk.cases.get(case.id)
    assert done is not None
    assert await desk.cases.payload(done, "request") is None
    assert await desk.cases.answer(done) is None


async def test_the_listing_has_what_waits_first(desk: Desk) -> None:
    old = await desk.cases.open(opening("h1:a"))
    denied = await desk.cases.rule((await desk.cases.open(opening("h1:b"))).id, REVIEWER, "deny")
    foreign = await desk.cases.open(opening(principal=Principal("beta", "k", "Jiro")))
    assert desk.cases.listing("acme") == [old, denied]
    assert desk.cases.listing() == [foreign, old, denied]
    assert desk.cases.listing(limit=1) == [foreign]
    assert desk.cases.listing(status="denied") == [denied]


async def test_whoever_waits_is_woken_by_the_change(desk: Desk) -> None:
    case = await desk.cases.open(opening())
    waiting = [asyncio.create_task(desk.cases.changed(case, 30)) for _ in range(50)]
    await asyncio.sleep(0)
    await desk.cases.rule(case.id, REVIEWER, "approve")
    async with asyncio.timeout(0.9):
        woken = await asyncio.gather(*waiting)
    assert {each.status for each in woken} == {"approved"}
    assert (await desk.cases.changed(case, 30)).status == "approved"
    assert desk.cases._hub.waiters == 0
    assert desk.cases._hub._timer is None


async def test_what_another_replica_does_is_seen_within_two_seconds(desk: Desk) -> None:
    case = await desk.cases.open(opening())
    waiting = asyncio.create_task(desk.cases.changed(case, 30))
    await asyncio.sleep(0)
    await desk.beside().rule(case.id, REVIEWER, "deny")
    async with asyncio.timeout(5):
        assert (await waiting).status == "denied"


async def test_waiting_ends_with_its_time_or_with_the_waiter(desk: Desk) -> None:
    case = await desk.cases.open(opening(handling=Handling("desk", approvals=2)))
    assert await desk.cases.changed(case, 0) == case
    assert await desk.cases.changed(case, 0.01) == case
    waiting = asyncio.create_task(desk.cases.changed(case, 30))
    await asyncio.sleep(0.01)
    once = await desk.cases.rule(case.id, REVIEWER, "approve")
    assert once.status == "pending"
    await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert desk.cases._hub.waiters == 0


async def test_a_step_whose_caller_is_gone_still_counts_and_is_told(desk: Desk) -> None:
    case = await desk.approved()
    held = threading.Event()
    desk.store.writer.submit(lambda conn: held.wait(30))
    using = asyncio.create_task(desk.cases.consume(case.id, REVISION))
    waiting = asyncio.create_task(desk.cases.changed(case, 30))
    await asyncio.sleep(0.01)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    held.set()
    assert (await waiting).status == "consumed"
    assert desk.moved[-1].status == "consumed"


async def test_a_listener_that_fails_harms_nobody(desk: Desk) -> None:
    def fail(case: Case) -> None:
        raise RuntimeError(case.id)

    desk.cases.subscribe(fail)
    desk.cases.subscribe(desk.moved.append)
    case = await desk.cases.open(opening())
    assert desk.moved == [case, case]


async def test_any_answer_comes_back_as_it_was(desk: Desk) -> None:
    answer = StoredAnswer(404, "text/event-stream", (("a", "b\nc"), ("a", "ü")), b"\n\n" + bytes(range(256)) * 500)
    done = await desk.cases.complete((await desk.consumed()).id, answer)
    assert await desk.cases.answer(done) == answer


async def test_two_reviewers_where_two_are_needed(desk: Desk) -> None:
    case = await desk.cases.open(opening(handling=Handling("desk", approvals=2)))
    assert (await desk.cases.rule(case.id, REVIEWER, "approve")).status == "pending"
    both = await desk.cases.rule(case.id, OTHER, "approve", lesson="allow")
    assert both.status == "approved"
    assert [each.by for each in both.rulings] == ["Dr Sato", "Dr Mori"]
    assert both == await desk.cases.get(case.id)
