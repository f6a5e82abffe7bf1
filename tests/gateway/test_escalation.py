"""What people decide: held, approved once, used once, told rightly; whoever hangs up, whatever fails in between."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.entry import read_entry
from audit.log import latest_entries
from gateway import connection
from gateway.enforcement import Answer
from gateway.escalation.case import Case, Reviewer
from gateway.escalation.cases import Cases
from gateway.holding import Patience, Room
from gateway.pipeline import Pipeline
from gateway.ports import Call
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from gateway.store.users import now_ms
from gateway.upstream.http import HttpUpstream
from gateway.wire.chat import parse_request
from gateway.wire.sse import EventParser
from tests.doubles import LabelRules, ScriptedSafetyModel, UpstreamDouble, script

ANN = Principal("acme", "key-1", "ann")
BEN = Reviewer("ben", "acme")
ROUTE = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}
QUESTION = "ESCALATE this"
ACTING = script(text="so be it", tools=[["send", '{"to":"ESCALATE"}']])
AT_ONCE = Patience(hold_s=0, stream_hold_s=0)
LONG = Patience(hold_s=30, stream_hold_s=30)


@dataclass
class Desk:
    """A pipeline over a real store, and people who decide."""

    double: UpstreamDouble
    store: Store
    rules: LabelRules = field(default_factory=lambda: LabelRules(hold=AT_ONCE))
    judge: ScriptedSafetyModel = field(default_factory=ScriptedSafetyModel)
    later_ms: int = 0

    def __post_init__(self) -> None:
        self.upstream = HttpUpstream(self.double.url, None, connect_timeout_s=1, read_timeout_s=1)
        self.room = Room()
        self.limit_cases(500)

    def limit_cases(self, open_per_key: int) -> None:
        self.cases = Cases(
            self.store.reader,
            self.store.writer,
            self.store.trail,
            open_per_key=open_per_key,
            clock=lambda: now_ms() + self.later_ms,
        )
        self.pipeline = self.line(self.upstream)

    def line(self, upstream: HttpUpstream) -> Pipeline:
        return Pipeline(
            self.judge, self.rules, self.store.trail, self.cases, upstream, judge_timeout_s=5, room=self.room
        )

    def call(self, text: str = QUESTION, principal: Principal = ANN, **fields: Any) -> Call:
        known = {name: fields.pop(name) for name in ("idempotency_key", "wait_s") if name in fields}
        body = {"model": "m", "messages": [{"role": "user", "content": text}]} | fields
        return Call(principal, parse_request(orjson.dumps(body)), ROUTE, **known)

    async def ask(self, text: str = QUESTION, **fields: Any) -> Answer:
        return await self.pipeline.govern(self.call(text, **fields))

    async def read(self, text: str = QUESTION, **fields: Any) -> bytes:
        return await whole(await self.ask(text, stream=True, **fields))

    @property
    def case(self) -> Case:
        """The newest case."""
        return max(self.cases.listing(), key=lambda case: case.id)

    async def rule(self, kind: Any = "approve", **words: Any) -> Case:
        return await self.cases.rule(self.case.id, BEN, kind, **words)

    async def opened(self) -> None:
        """Wait until somebody waits for people."""
        await until(lambda: self.room.taken > 0)

    async def entries(self) -> list[dict[str, Any]]:
        await self.pipeline.drain()
        with self.store.reader.connect() as conn:
            return [read_entry(leaf) for _, leaf in sorted(latest_entries(conn, "acme", 1000))]

    async def outcomes(self) -> list[str]:
        return [entry["outcome"] for entry in await self.entries() if entry["ev"] == "enforcement"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("template") / "var"
    Store(DataDirectory(directory)).close()
    return directory


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copytree(template, tmp_path / "var")
    with Store(DataDirectory(tmp_path / "var")) as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as started:
        yield started


@pytest.fixture
async def desk(server: UpstreamDouble, store: Store) -> AsyncIterator[Desk]:
    server.requests.clear()
    server.aborted = 0
    made = Desk(server, store)
    yield made
    await made.pipeline.drain()
    await made.upstream.close()
    assert made.room.taken == 0


def body(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


async def whole(answer: Answer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    return b"".join([piece async for piece in answer.body])


def chunks(data: bytes) -> list[Any]:
    parser = EventParser()
    found = [*parser.feed(data), *parser.close()]
    return [each.decode() if each == b"[DONE]" else orjson.loads(each) for each in found]


def told(answer: Answer, name: bytes) -> str:
    return dict(answer.headers)[name].decode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# Holding


async def test_an_escalated_request_is_held_and_then_told_to_come_back(desk: Desk) -> None:
    answer = await desk.ask()
    case, error = desk.case, body(answer)["error"]
    assert (answer.status, error["code"], error["case"]["id"]) == (409, "escalation_pending", case.id)
    assert error["case"] | {"url": f"/v1/cases/{case.id}", "status": "pending", "poll_after_s": 2} == error["case"]
    assert {(b"retry-after", b"2"), (b"x-should-retry", b"true"), (b"x-so8t-case-id", case.id.encode())} <= set(
        answer.headers
    )
    assert told(answer, b"x-so8t-decision") == "escalate"
    assert desk.double.requests == []
    entries = await desk.entries()
    assert [entry["ev"] for entry in entries] == ["decision", "case_opened", "enforcement"]
    assert {entry["case"] for entry in entries} == {case.id}
    assert entries[-1]["outcome"] == "held"
    assert await desk.cases.payload(case, "request") == desk.call().request.forwarded
    seen = orjson.loads(await desk.cases.payload(case, "asked") or b"")
    assert (seen["label"], seen["domain"], seen["pointer"]) == ("ESCALATE", "medical", "/messages/0")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_policy_may_prefer_a_refusal(desk: Desk, stream: bool) -> None:
    desk.rules.hold = Patience(0, 0, "refusal")
    answer = await desk.ask(stream=stream)
    found = chunks(await whole(answer))[-2] if stream else body(answer)
    assert answer.status == 200
    assert found["choices"][0]["finish_reason"] == "content_filter"
    assert (found["governance"]["decision"], found["governance"]["case_id"]) == ("escalate", desk.case.id)


@pytest.mark.parametrize("language", ["en", "ja"])
async def test_the_texts_follow_the_language(desk: Desk, language: Any) -> None:
    desk.rules.language = language
    text = body(await desk.ask())["error"]["message"]
    assert ("担当者" if language == "ja" else "people who decide") in text
    await desk.rule("deny")
    text = body(await desk.ask())["choices"][0]["message"]["content"]
    assert ("却下" if language == "ja" else "denied") in text
    assert desk.case.id in text


async def test_approved_in_time_the_client_never_knew(desk: Desk) -> None:
    desk.rules.hold = LONG
    waiting = asyncio.create_task(desk.ask())
    await desk.opened()
    assert desk.double.requests == []
    await desk.rule()
    answer = await waiting
    assert (answer.status, body(answer)["system_fingerprint"]) == (200, "fp_double")
    assert told(answer, b"x-so8t-decision") == "approved"
    assert len(desk.double.requests) == 1
    assert desk.case.status == "completed"
    entries = await desk.entries()
    assert [entry.get("status") for entry in entries if entry["ev"] == "case"] == ["approved", "consumed", "completed"]
    (last,) = [entry for entry in entries if entry["ev"] == "enforcement"]
    assert (last["outcome"], last["upstream_status"], last["case"]) == ("forwarded", 200, desk.case.id)


async def test_a_held_stream_lives_and_then_carries_the_reply(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BEAT_S", 0.05)
    desk.rules.hold = LONG
    answer = await desk.ask(stream=True)
    assert (answer.status, answer.media_type[:17]) == (200, b"text/event-stream")
    waiting = asyncio.create_task(whole(answer))
    await desk.opened()
    await asyncio.sleep(0.2)
    await desk.rule()
    data = await waiting
    assert data.count(b": a human decides\n\n") >= 3
    assert (
        "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks(data)[:-1])
        == f"echo:{'ESCALATE'}this"
    )
    assert len(desk.double.requests) == 1


async def test_a_stream_that_waited_in_vain_ends_with_an_error(desk: Desk) -> None:
    desk.rules.hold = Patience(0, 0.1)
    data = await desk.read()
    assert data.startswith(b": a human decides\n\n")
    (error,) = chunks(data)
    assert (error["error"]["code"], error["error"]["case"]["id"]) == ("escalation_pending", desk.case.id)
    assert await desk.outcomes() == ["held"]


@pytest.mark.parametrize("kind", ["approve", "deny", None])
async def test_a_plain_client_may_wait_on_an_open_connection(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    monkeypatch.setattr(connection, "BEAT_S", 0.05)
    monkeypatch.setattr("gateway.pipeline.BEAT_S", 0.05)
    answer = await desk.ask(wait_s=30 if kind else 0.3)
    assert (answer.status, answer.media_type) == (200, b"application/json")
    reading = asyncio.create_task(whole(answer))
    await asyncio.sleep(0.15)
    if kind:
        await desk.rule(kind)
    data = await reading
    assert data.startswith(b"  ")
    reply = orjson.loads(data)
    assert reply["choices"][0]["finish_reason"] == ("stop" if kind == "approve" else "content_filter")
    assert reply.get("governance", {}).get("decision") == {"approve": None, "deny": "denied", None: "escalate"}[kind]


async def test_whoever_finds_no_seat_is_told_at_once(desk: Desk) -> None:
    desk.rules.hold = LONG
    desk.room = Room(seats=9, seats_per_key=1)
    desk.pipeline = desk.line(desk.upstream)
    first = asyncio.create_task(desk.ask())
    await desk.opened()
    assert (await desk.ask()).status == 409
    assert (await desk.ask(stream=True)).status == 409
    assert not first.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert desk.room.taken == 0
    assert sorted(await desk.outcomes()) == ["client_disconnected", "held", "held"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_frees_its_seat(desk: Desk, stream: bool) -> None:
    desk.rules.hold = LONG
    before = len(asyncio.all_tasks())
    if stream:
        answer = await desk.ask(stream=True)
        assert not isinstance(answer.body, bytes)
        await anext(answer.body)
        await desk.opened()
        await answer.body.aclose()
    else:
        waiting = asyncio.create_task(desk.ask())
        await desk.opened()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert desk.room.taken == 0
    assert desk.case.status == "pending"
    assert await desk.outcomes() == ["client_disconnected"]
    assert len(asyncio.all_tasks()) == before


async def test_who_waits_is_sent_away_when_the_gateway_stops(desk: Desk) -> None:
    desk.rules.hold = LONG
    plain, stream = asyncio.create_task(desk.ask()), asyncio.create_task(desk.read())
    await until(lambda: desk.room.taken == 2)
    desk.pipeline.dismiss()
    assert (await plain).status == 409
    assert chunks(await stream)[-1]["error"]["code"] == "escalation_pending"
    assert (await desk.ask()).status == 409


# One request, one case, one use


async def test_the_same_request_at_once_is_one_case(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.ask() for _ in range(8)))
    assert {told(answer, b"x-so8t-case-id") for answer in answers} == {desk.case.id}
    assert len(desk.cases.listing()) == 1
    assert await desk.outcomes() == ["held"] * 8


async def test_a_request_of_another_key_or_idempotency_key_is_another_case(desk: Desk) -> None:
    await desk.ask()
    await desk.ask(idempotency_key="1")
    await desk.ask(principal=Principal("acme", "key-2", "ann"))
    assert len(desk.cases.listing()) == 3


async def test_sending_it_again_is_the_resume_and_then_a_replay(desk: Desk) -> None:
    await desk.ask()
    await desk.rule()
    first = await desk.ask()
    assert first.status == 200
    for _ in range(100):
        again = await desk.ask()
        assert (again.body, again.headers) == (first.body, first.headers)
    assert len(desk.double.requests) == 1
    assert await desk.outcomes() == ["held", "forwarded", *["replayed"] * 100]
    desk.later_ms = 601_000
    assert (await desk.ask()).status == 409
    assert len(desk.double.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_64_resumes_at_once_are_one_call(desk: Desk, stream: bool) -> None:
    text = f"{QUESTION} {script(text='x')}"
    desk.double.scripts[text] = {"text": "a b c", "delay": 0.05}
    await desk.ask(text, stream=stream)
    await desk.rule()
    answers = await asyncio.gather(*(desk.ask(text, stream=stream) for _ in range(64)))
    bodies = await asyncio.gather(*(whole(answer) for answer in answers))
    assert len(set(bodies)) == 1
    assert {answer.status for answer in answers} == {200}
    assert len(desk.double.requests) == 1
    assert sorted(await desk.outcomes()) == ["forwarded", "held", *["replayed"] * 63]


async def test_two_gateways_use_an_approval_once(desk: Desk) -> None:
    other = Desk(desk.double, desk.store)
    await desk.ask()
    await desk.rule()
    desk.rules.hold = other.rules.hold = LONG
    answers = await asyncio.gather(*(each.ask() for each in (desk, other) for _ in range(8)))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert len(desk.double.requests) == 1
    await other.pipeline.drain()
    await other.upstream.close()


FIELDS: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "n": 1,
    "max_tokens": 100,
    "seed": 1,
    "user": "u",
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "stop": ["x"],
    "parallel_tool_calls": True,
    "metadata": {f"k{number}": "v" for number in range(16)},
    "logit_bias": {str(number): number for number in range(40)},
    "tools": [
        {
            "type": "function",
            "function": {
                "name": f"tool{number}",
                "description": "d",
                "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            },
        }
        for number in range(10)
    ],
    "messages": [
        {"role": "system", "content": "s"},
        *({"role": "user", "content": f"{QUESTION} {number}"} for number in range(12)),
    ],
}


def mutations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every scalar in ``value``."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from mutations(item, (*path, key))
    else:
        yield path


def changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case _:
            return f"{value}x"


async def test_an_approval_is_for_the_exact_request(desk: Desk) -> None:
    await desk.ask(**FIELDS)
    await desk.rule()
    approved = desk.case
    tried = 0
    for path in mutations(FIELDS):
        other = orjson.loads(orjson.dumps(FIELDS))
        place = other
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = changed(place[path[-1]])
        if path[-1] in ("role", "type"):
            continue
        answer = await desk.ask(**other)
        assert answer.status == 409, path
        tried += 1
    assert tried >= 100
    for other in (
        {"model": "m2"},
        {"stream": True},
        {"idempotency_key": "x"},
        {"principal": Principal("acme", "k", "ann")},
    ):
        assert (await desk.ask(**(FIELDS | other))).status == 409
    assert desk.double.requests == []
    assert (await desk.ask(**FIELDS)).status == 200
    assert len(desk.double.requests) == 1
    finished = await desk.cases.get(approved.id)
    assert finished is not None
    assert finished.status == "completed"


async def test_a_changed_policy_withdraws_the_approval(desk: Desk) -> None:
    await desk.ask()
    await desk.rule()
    first = desk.case
    desk.rules.revised = "2" * 64
    answers = await asyncio.gather(*(desk.ask() for _ in range(8)))
    assert {answer.status for answer in answers} == {409}
    assert desk.double.requests == []
    successor = desk.case
    assert (successor.predecessor, successor.status, len(desk.cases.listing())) == (first.id, "pending", 2)
    withdrawn = await desk.cases.get(first.id)
    assert withdrawn is not None
    assert (withdrawn.status, withdrawn.reason, withdrawn.successor) == ("withdrawn", "policy_changed", successor.id)
    await desk.rule()
    assert (await desk.ask()).status == 200


async def test_a_policy_that_changes_while_a_stream_waits(desk: Desk) -> None:
    desk.rules.hold = LONG
    reading = asyncio.create_task(desk.read())
    await desk.opened()
    desk.rules.revised = "2" * 64
    await desk.rule()
    await until(lambda: len(desk.cases.listing()) == 2)
    await desk.opened()
    await desk.rule()
    assert chunks(await reading)[-1] == "[DONE]"
    assert len(desk.double.requests) == 1


# How cases end


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", ["denied", "due", "unused", "unreachable"])
async def test_how_a_case_ended_is_told_rightly(desk: Desk, ending: str, stream: bool) -> None:
    await desk.ask(stream=stream)
    if ending == "denied":
        await desk.rule("deny", text="no")
    elif ending == "unreachable":
        await desk.cases.give_up(desk.case.id, "unreachable")
    else:
        if ending == "unused":
            await desk.rule()
        desk.later_ms = desk.rules.terms.due_s * 1000 * 3
        await desk.cases.expire()
    answer = await desk.ask(stream=stream)
    reply = chunks(await whole(answer))[-2] if stream else body(answer)
    word = "denied" if ending == "denied" else "expired"
    assert (answer.status, reply["choices"][0]["finish_reason"]) == (200, "content_filter")
    assert (reply["governance"]["decision"], reply["governance"]["case_id"]) == (word, desk.case.id)
    assert told(answer, b"x-so8t-decision") == word
    if ending != "denied" and not stream:
        text = reply["choices"][0]["message"]["content"]
        assert "denied" not in text
    assert desk.double.requests == []
    assert (await desk.outcomes())[-1] == word


async def test_an_approval_that_expires_unseen_is_not_used(desk: Desk) -> None:
    await desk.ask()
    await desk.rule()
    desk.later_ms = 3_601_000
    answer = await desk.ask()
    assert answer.status == 409
    assert desk.double.requests == []
    await desk.cases.expire()
    assert body(await desk.ask())["governance"]["decision"] == "expired"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_persons_answer_is_a_normal_reply(desk: Desk, stream: bool) -> None:
    await desk.ask(stream=stream)
    await desk.rule("answer", text="Ask Dr. Sato.")
    for _ in range(2):
        answer = await desk.ask(stream=stream)
        assert told(answer, b"x-so8t-decision") == "answered"
        if stream:
            found = chunks(await whole(answer))
            assert found[0]["choices"][0]["delta"]["content"] == "Ask Dr. Sato."
            assert found[-2]["choices"][0]["finish_reason"] == "stop"
        else:
            choice = body(answer)["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"]) == ("Ask Dr. Sato.", "stop")
    assert desk.double.requests == []
    assert await desk.outcomes() == ["held", "answered", "answered"]


async def test_expired_while_waiting(desk: Desk) -> None:
    desk.rules.hold = LONG
    waiting = asyncio.create_task(desk.ask())
    await desk.opened()
    desk.later_ms = 10**8
    await desk.cases.expire()
    assert body(await waiting)["governance"]["decision"] == "expired"


async def test_too_many_cases_are_refused(desk: Desk) -> None:
    desk.limit_cases(2)
    for number in range(2):
        await desk.ask(f"{QUESTION} {number}")
    answer = await desk.ask()
    assert (answer.status, body(answer)["governance"]["decision"]) == (200, "escalate")
    assert len(desk.cases.listing()) == 2
    data = await desk.read(ACTING, tools=[TOOL])
    assert chunks(data)[-2]["choices"][0]["finish_reason"] == "content_filter"
    assert b"tool_calls" not in data
    assert await desk.outcomes() == ["held", "held", "too_many_cases", "too_many_cases"]


# What goes wrong after the use has begun


async def test_an_upstream_that_is_down_is_a_failure_that_may_be_asked_anew(desk: Desk) -> None:
    with UpstreamDouble() as gone:
        down = HttpUpstream(gone.url, None, connect_timeout_s=1, read_timeout_s=1)
    await desk.ask()
    await desk.rule()
    desk.pipeline = desk.line(down)
    answer = await desk.ask()
    assert (answer.status, body(answer)["error"]["code"]) == (502, "upstream_unreachable")
    assert (desk.case.status, desk.case.reason) == ("failed", "upstream_unreachable")
    assert (await desk.ask()).status == 409
    assert len(desk.cases.listing()) == 2
    await down.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("steps", "reason"),
    [({"text": "x", "delay": 3}, "upstream_timeout"), ({"raw": "<html>"}, "upstream_invalid")],
)
async def test_an_unknown_outcome_goes_to_people_again(
    desk: Desk, steps: dict[str, Any], reason: str, stream: bool
) -> None:
    text = f"{QUESTION} {reason} {stream}"
    desk.double.scripts[text] = steps
    await desk.ask(text, stream=stream)
    await desk.rule()
    used = desk.case
    first = await desk.ask(text, stream=stream)
    assert reason.encode() in await whole(first)
    ended = await desk.cases.get(used.id)
    assert ended is not None
    assert (ended.status, ended.reason, ended.successor) == ("outcome_unknown", reason, desk.case.id)
    again = await desk.ask(text, stream=stream)
    assert (again.status, told(again, b"x-so8t-case-id")) == (409, desk.case.id)
    assert len(desk.double.requests) == 1
    desk.double.scripts[text] = {"text": "now"}
    await desk.rule()
    assert b"now" in await whole(await desk.ask(text, stream=stream))


async def test_an_upstreams_error_is_an_answer(desk: Desk) -> None:
    desk.double.scripts[f"{QUESTION} 429"] = {"status": 429}
    await desk.ask(f"{QUESTION} 429")
    await desk.rule()
    for _ in range(3):
        assert (await desk.ask(f"{QUESTION} 429")).status == 429
    assert len(desk.double.requests) == 1
    assert desk.case.status == "completed"
    assert await desk.outcomes() == ["held", "upstream_error", "replayed", "replayed"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_survives_its_clients(desk: Desk, stream: bool) -> None:
    text = f"{QUESTION} slowly {stream}"
    desk.double.scripts[text] = {"text": "a b c", "delay": 0.2}
    await desk.ask(text, stream=stream)
    await desk.rule()
    client = asyncio.create_task(_consume(desk, text, stream))
    await until(lambda: len(desk.double.requests) == 1)
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    again = await whole(await desk.ask(text, stream=stream))
    assert b"a" in again
    assert b"c" in again
    assert desk.case.status == "completed"
    assert (len(desk.double.requests), desk.double.aborted) == (1, 0)
    assert await desk.outcomes() == ["held", "forwarded", "replayed"]


async def _consume(desk: Desk, text: str, stream: bool) -> bytes:
    return await whole(await desk.ask(text, stream=stream))


async def test_a_run_that_a_stop_breaks_off_is_put_before_people_again(desk: Desk) -> None:
    text = f"{QUESTION} very slowly"
    desk.double.scripts[text] = {"text": "a", "delay": 0.9}
    await desk.ask(text)
    await desk.rule()
    used = desk.case
    client = asyncio.create_task(desk.ask(text))
    await until(lambda: len(desk.double.requests) == 1)
    await desk.pipeline._runs.drain(limit_s=0.1)
    assert body(await client)["error"]["code"] == "upstream_interrupted"
    assert desk.case.status == "consumed"
    (successor,) = await desk.cases.recover()
    assert successor.predecessor == used.id
    assert told(await desk.ask(text), b"x-so8t-case-id") == successor.id
    assert len(desk.double.requests) == 1
    assert (await desk.outcomes())[:2] == ["held", "interrupted"]


async def test_without_a_log_nothing_is_opened_or_forwarded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.ask()
    await desk.rule()
    await asyncio.to_thread(desk.store.writer.close)
    for text in (QUESTION, "ESCALATE other"):
        answer = await desk.ask(text)
        assert (answer.status, body(answer)["error"]["code"]) == (503, "audit_unavailable")
    assert desk.double.requests == []


# What the model proposes to do


async def test_a_proposed_action_waits_sealed_and_is_released_as_it_was(desk: Desk) -> None:
    answer = await desk.ask(ACTING, tools=[TOOL])
    assert answer.status == 409
    assert b"send" not in await whole(answer)
    case = desk.case
    sealed = await desk.cases.payload(case, "reply")
    seen = orjson.loads(await desk.cases.payload(case, "asked") or b"")
    assert case.stage == "response"
    assert seen["actions"][0]["tool_calls"] == [{"name": "send", "arguments": '{"to":"ESCALATE"}'}]
    assert (await desk.ask(ACTING, tools=[TOOL])).status == 409
    await desk.rule()
    answers = await asyncio.gather(*(desk.ask(ACTING, tools=[TOOL]) for _ in range(64)))
    assert {answer.body for answer in answers} == {sealed}
    assert body(answers[0])["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "send"
    assert len(desk.double.requests) == 1
    assert sorted(set(await desk.outcomes())) == ["held", "released", "replayed"]


@pytest.mark.parametrize("kind", ["approve", "deny", "answer"])
async def test_in_a_stream_only_the_rest_is_held(desk: Desk, kind: str) -> None:
    desk.rules.hold = LONG
    answer = await desk.ask(ACTING, tools=[TOOL], stream=True)
    assert not isinstance(answer.body, bytes)
    pieces: list[bytes] = []

    async def read() -> None:
        assert not isinstance(answer.body, bytes)
        pieces.extend([piece async for piece in answer.body])

    reading = asyncio.create_task(read())
    await desk.opened()
    await asyncio.sleep(0.05)
    assert desk.case.stage == "response"
    await desk.rule(kind, text="do it by hand" if kind == "answer" else None)
    await reading
    data = b"".join(pieces)
    found = chunks(data)
    assert found[-1] == "[DONE]"
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in found[:-1])
    assert text.startswith("sobeit")
    if kind == "approve":
        sealed = await desk.cases.payload(desk.case, "reply")
        assert data.replace(b": a human decides\n\n", b"") == sealed
        assert b"tool_calls" in data
        assert await whole(await desk.ask(ACTING, tools=[TOOL], stream=True)) == sealed
    else:
        assert b"tool_calls" not in data
        assert found[-2]["choices"][0]["finish_reason"] == ("content_filter" if kind == "deny" else "stop")
        assert len({each["id"] for each in found[:-1]}) == 1
    assert len(desk.double.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_reply_to_an_approved_request_has_a_case_of_its_own(desk: Desk, stream: bool) -> None:
    text = f"{QUESTION} and act {stream}"
    desk.double.scripts[text] = {"text": "so be it", "tools": [["send", '{"to":"ESCALATE"}']]}
    await desk.ask(text, tools=[TOOL], stream=stream)
    first = desk.case
    await desk.rule()
    desk.rules.hold = LONG
    waiting = [asyncio.create_task(_read(desk, text, stream)) for _ in range(4)]
    await until(lambda: desk.case.id != first.id)
    second = desk.case
    assert (second.stage, second.predecessor, second.status) == ("response", first.id, "pending")
    ended = await desk.cases.get(first.id)
    assert ended is not None
    assert ended.status == "completed"
    await until(lambda: desk.room.taken == 4)
    await desk.rule()
    for data in await asyncio.gather(*waiting):
        assert b'"send"' in data
        assert data.replace(b": a human decides\n\n", b"") == await desk.cases.payload(second, "reply")
    assert len(desk.double.requests) == 1


async def _read(desk: Desk, text: str, stream: bool) -> bytes:
    return await whole(await desk.ask(text, tools=[TOOL], stream=stream))


async def test_another_reply_to_the_same_request_is_not_mixed_in(desk: Desk) -> None:
    desk.rules.hold = LONG
    first = asyncio.create_task(desk.read(ACTING, tools=[TOOL]))
    await desk.opened()
    opened = desk.case
    # judged before the first one's case was there
    call = desk.call(ACTING, tools=[TOOL], stream=True)
    passage = desk.pipeline._enter(call)
    passage.binding = opened.binding
    desk.double.scripts[ACTING] = {"text": "other words", "tools": [["send", '{"to":"ESCALATE"}']]}
    try:
        answer = await desk.pipeline._decide(passage)
        assert isinstance(answer, Answer)
        assert b"send it again" in await whole(answer)
    finally:
        del desk.double.scripts[ACTING]
    await desk.rule()
    assert b"tool_calls" in await first
    assert len(desk.cases.listing()) == 1


async def test_no_verdict_on_the_reply_to_an_approved_request_releases_nothing(desk: Desk) -> None:
    text = f"{QUESTION} unjudged"
    desk.double.scripts[text] = {"tools": [["send", "{}"]]}
    await desk.ask(text, tools=[TOOL])
    await desk.rule()
    used = desk.case
    desk.judge.failure, desk.judge.fail_at = ValueError("a bug"), "response"
    answer = await desk.ask(text, tools=[TOOL])
    assert (answer.status, body(answer)["error"]["code"]) == (503, "judge_unavailable")
    ended = await desk.cases.get(used.id)
    assert ended is not None
    assert (ended.status, ended.reason) == ("outcome_unknown", "judge_unavailable")
