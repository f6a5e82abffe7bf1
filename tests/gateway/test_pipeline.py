"""The straight line: nothing passes before its decision is in the log, whatever fails."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.enforcement import Answer
from gateway.errors import AuditUnavailable, JudgeUnavailable, NotFoundError
from gateway.escalation.cases import Cases
from gateway.pipeline import Pipeline
from gateway.ports import Call
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from gateway.upstream.http import HttpUpstream
from gateway.upstream.local import LocalUpstream
from gateway.wire.chat import parse_request
from gateway.wire.sse import EventParser
from tests.doubles import LabelRules, MemoryTrail, ScriptedSafetyModel, UpstreamDouble, overloaded, script

PRINCIPAL = Principal("acme", "key-1", "ann")
TOOL = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}


@dataclass
class Spine:
    """A pipeline and everything around it."""

    double: UpstreamDouble
    store: Store
    judge: ScriptedSafetyModel = field(default_factory=ScriptedSafetyModel)
    rules: LabelRules = field(default_factory=LabelRules)
    trail: MemoryTrail = field(default_factory=MemoryTrail)

    def __post_init__(self) -> None:
        self.upstream = HttpUpstream(self.double.url, None, connect_timeout_s=2, read_timeout_s=2)
        self.cases = Cases(self.store.reader, self.store.writer, self.store.trail)
        self.pipeline = Pipeline(self.judge, self.rules, self.trail, self.cases, self.upstream, judge_timeout_s=0.5)

    async def ask(self, text: str, **fields: object) -> Answer:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]} | fields
        return await self.pipeline.govern(Call(PRINCIPAL, parse_request(orjson.dumps(body)), "/v1/chat/completions"))

    async def outcome(self) -> tuple[list[Any], str, int | None]:
        """Return the effects of all decisions, and the one enforcement's outcome and upstream status."""
        await self.pipeline.drain()
        (last,) = self.trail.of("enforcement")
        decisions = self.trail.of("decision")
        assert last["decision"] == decisions[-1]["decision"]
        assert {entry["request"] for entry in [*decisions, last]} == {last["request"]}
        return [entry["effect"] for entry in decisions], last["outcome"], last["upstream_status"]


@pytest.fixture
def double() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as server:
        yield server


@pytest.fixture
async def spine(double: UpstreamDouble, tmp_path: Path) -> AsyncIterator[Spine]:
    store = await asyncio.to_thread(Store, DataDirectory(tmp_path / "var"))
    made = Spine(double, store)
    yield made
    await made.pipeline.drain()
    await made.upstream.close()
    await asyncio.to_thread(store.close)


def body(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


async def events(answer: Answer) -> list[Any]:
    assert not isinstance(answer.body, bytes)
    parser = EventParser()
    found = [event async for piece in answer.body for event in parser.feed(piece)]
    return [event.decode() if event == b"[DONE]" else orjson.loads(event) for event in found]


def decision_id(answer: Answer) -> str:
    return dict(answer.headers)[b"x-so8t-decision-id"].decode()


async def test_allowed_passes_unchanged_and_is_recorded(spine: Spine, double: UpstreamDouble) -> None:
    answer = await spine.ask("hi", temperature=0.5)
    assert (answer.status, body(answer)["system_fingerprint"]) == (200, "fp_double")
    assert double.requests == [{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}]
    assert decision_id(answer) == spine.trail.of("decision")[0]["decision"]
    assert await spine.outcome() == (["ALLOW"], "forwarded", 200)
    assert spine.trail.entries[0][3]["request"] == double.bodies[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_request_reaches_nobody(spine: Spine, double: UpstreamDouble, stream: bool) -> None:
    answer = await spine.ask("REFUSE this", stream=stream)
    found = (await events(answer))[-2] if stream else body(answer)
    assert found["choices"][0]["finish_reason"] == "content_filter"
    assert found["governance"]["decision"] == "refuse"
    assert double.requests == []
    assert await spine.outcome() == (["REFUSE"], "refused", None)


async def test_monitoring_forwards_what_it_would_stop(spine: Spine) -> None:
    spine.rules.enforced = False
    answer = await spine.ask("REFUSE this")
    assert body(answer)["choices"][0]["message"]["content"] == "echo: REFUSE this"
    assert dict(answer.headers)[b"x-so8t-enforced"] == b"false"
    assert await spine.outcome() == (["REFUSE"], "forwarded", 200)


async def test_a_proposed_action_is_judged_as_the_last_message(spine: Spine) -> None:
    answer = await spine.ask(script(tools=[["send", '{"to":"bob"}']]), tools=[TOOL])
    assert body(answer)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "send"
    organization, stage, conversation = spine.judge.judged[-1]
    assert (organization, stage) == ("acme", "response")
    assert [message.role for message in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[-1].tool_calls[0].arguments == '{"to":"bob"}'
    assert conversation.tools[0].name == "send"
    assert await spine.outcome() == (["ALLOW", "ALLOW"], "forwarded", 200)
    assert decision_id(answer) == spine.trail.of("decision")[1]["decision"]
    assert spine.trail.entries[1][3]["response"] == answer.body


async def test_a_refused_action_is_not_released(spine: Spine) -> None:
    asked = script(tools=[["send", '{"to":"x"}'], ["send", '{"to":"REFUSE"}']])
    answer = await spine.ask(asked, tools=[TOOL])
    reply = body(answer)
    assert reply["id"] == "chatcmpl-double"
    assert "tool_calls" not in reply["choices"][0]["message"]
    assert reply["governance"]["decision"] == "refuse"
    assert await spine.outcome() == (["ALLOW", "REFUSE"], "refused", 200)


async def test_every_choice_counts(spine: Spine) -> None:
    answer = await spine.ask(script(tools=[["send", '{"to":"REFUSE"}']], choices=3), n=3, tools=[TOOL])
    reply = body(answer)
    assert [choice["finish_reason"] for choice in reply["choices"]] == ["content_filter"] * 3
    assert await spine.outcome() == (["ALLOW", "REFUSE"], "refused", 200)


async def test_arguments_that_two_parsers_read_differently_are_not_released(spine: Spine) -> None:
    answer = await spine.ask(script(tools=[["send", '{"to":"a","to":"b"}']]), tools=[TOOL])
    assert (answer.status, body(answer)["error"]["governance"]["decision"]) == (409, "escalate")


async def test_a_stream_passes_text_and_is_recorded_at_its_end(spine: Spine) -> None:
    answer = await spine.ask(script(text="one two"), stream=True)
    found = await events(answer)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in found[:-1]) == "onetwo"
    assert found[-1] == "[DONE]"
    assert await spine.outcome() == (["ALLOW"], "forwarded", 200)


async def test_a_streams_calls_are_held_and_released_unchanged(spine: Spine) -> None:
    answer = await spine.ask(script(text="so", tools=[["send", '{"to":"bob"}']]), stream=True, tools=[TOOL])
    assert not isinstance(answer.body, bytes)
    pieces = [piece async for piece in answer.body]
    assert len(spine.trail.of("decision")) == 2
    assert b"tool_calls" not in b"".join(pieces[:-1])
    assert b"".join(pieces).count(b'"tool_calls":[') == 3
    assert await spine.outcome() == (["ALLOW", "ALLOW"], "forwarded", 200)


async def test_a_streams_call_that_is_stopped_never_leaves(spine: Spine) -> None:
    asked = script(text="so", tools=[["send", '{"to":"REFUSE"}']])
    found = await events(await spine.ask(asked, stream=True, tools=[TOOL]))
    assert "tool_calls" not in str(found)
    assert found[-2]["choices"][0]["finish_reason"] == "content_filter"
    assert found[-2]["id"] == "chatcmpl-double"
    assert found[-2]["governance"]["decision_id"] == spine.trail.of("decision")[1]["decision"]
    assert await spine.outcome() == (["ALLOW", "REFUSE"], "refused", 200)


async def test_in_a_stream_the_error_shape_is_an_event(spine: Spine) -> None:
    spine.rules.shape = "error"
    asked = script(tools=[["send", '{"to":"REFUSE"}']])
    found = await events(await spine.ask(asked, stream=True, tools=[TOOL]))
    assert found[-2]["error"]["code"] == "content_filter"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (overloaded(), "overloaded"),
        (JudgeUnavailable("crashed", "x"), "crashed"),
        (ValueError("a bug"), "crashed"),
    ],
)
async def test_no_verdict_means_503_recorded_and_nothing_forwarded(
    spine: Spine, double: UpstreamDouble, failure: Exception, reason: str
) -> None:
    spine.judge.failure = failure
    answer = await spine.ask("hi")
    assert (answer.status, body(answer)["error"]["code"]) == (503, "judge_unavailable")
    assert (b"x-should-retry", b"true") in answer.headers
    assert double.requests == []
    assert await spine.outcome() == ([None], "judge_unavailable", None)
    assert spine.trail.of("decision")[0]["reasons"] == [f"judge:{reason}"]
    assert decision_id(answer) == spine.trail.of("decision")[0]["decision"]


async def test_a_slow_judge_is_a_timeout_and_is_cancelled(spine: Spine, double: UpstreamDouble) -> None:
    spine.judge.delay_s = 30
    answer = await spine.ask("hi")
    assert answer.status == 503
    assert spine.trail.of("decision")[0]["reasons"] == ["judge:timeout"]
    assert (double.requests, spine.judge.cancelled) == ([], 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_no_verdict_on_an_action_releases_nothing(spine: Spine, stream: bool) -> None:
    spine.judge.failure, spine.judge.fail_at = overloaded(), "response"
    answer = await spine.ask(script(tools=[["send", "{}"]]), stream=stream, tools=[TOOL])
    error = (await events(answer))[-1] if stream else body(answer)
    assert error["error"]["code"] == "judge_unavailable"
    assert "tool_calls" not in str(error)
    effects, outcome, _ = await spine.outcome()
    assert (effects, outcome) == (["ALLOW", None], "judge_unavailable")


async def test_without_a_log_nothing_is_forwarded(spine: Spine, double: UpstreamDouble) -> None:
    spine.trail.failure = AuditUnavailable("disk full")
    for text in ("hi", "REFUSE"):
        answer = await spine.ask(text)
        assert (answer.status, body(answer)["error"]["code"]) == (503, "audit_unavailable")
    spine.judge.failure = overloaded()
    assert body(await spine.ask("hi"))["error"]["code"] == "audit_unavailable"
    assert double.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_log_no_action_is_released(spine: Spine, stream: bool) -> None:
    spine.trail.failure, spine.trail.fail_from = AuditUnavailable("disk full"), 1
    answer = await spine.ask(script(tools=[["send", "{}"]]), stream=stream, tools=[TOOL])
    error = (await events(answer))[-1] if stream else body(answer)
    assert error["error"]["code"] == "audit_unavailable"


@pytest.mark.parametrize(
    ("steps", "status", "code", "outcome"),
    [
        ({"status": 429}, 429, "scripted", "upstream_error"),
        ({"status": 500, "text": "key sk-secret-secret"}, 500, "scripted", "upstream_error"),
        ({"raw": "<html>"}, 502, "upstream_invalid", "upstream_invalid"),
        ({"raw": '{"choices":[],"choices":[]}'}, 502, "upstream_invalid", "upstream_invalid"),
        ({"text": "x", "delay": 5}, 502, "upstream_timeout", "upstream_timeout"),
    ],
)
async def test_what_the_upstream_does_wrong_is_told_and_recorded(
    spine: Spine, steps: dict[str, Any], status: int, code: str, outcome: str
) -> None:
    answer = await spine.ask(script(**steps))
    assert (answer.status, body(answer)["error"]["code"]) == (status, code)
    assert b"secret" not in bytes(str(answer), "utf-8").replace(b"x-secret", b"")
    assert decision_id(answer) == spine.trail.of("decision")[0]["decision"]
    assert (await spine.outcome())[:2] == (["ALLOW"], outcome)


async def test_a_stream_request_answered_without_a_stream_is_invalid(spine: Spine) -> None:
    answer = await spine.ask(script(text="x", no_stream=True), stream=True)
    assert body(answer)["error"]["code"] == "upstream_invalid"


@pytest.mark.parametrize("tools", [[], [["send", '{"to":"bob"}']]])
async def test_a_stream_that_breaks_off_says_so_and_releases_nothing(spine: Spine, tools: list[Any]) -> None:
    answer = await spine.ask(script(text="a b c", tools=tools, cut=3 if not tools else 6), stream=True, tools=[TOOL])
    found = await events(answer)
    assert found[-1]["error"]["code"] == "upstream_invalid"
    assert "tool_calls" not in str(found)
    assert (await spine.outcome())[:2] == (["ALLOW"], "upstream_invalid")


async def test_a_client_that_leaves_a_stream_aborts_the_upstream(spine: Spine, double: UpstreamDouble) -> None:
    answer = await spine.ask(script(text="a b c d e f", delay=0.2), stream=True)
    assert not isinstance(answer.body, bytes)
    assert await anext(answer.body)
    await answer.body.aclose()
    assert await spine.outcome() == (["ALLOW"], "client_disconnected", 200)
    await _until(lambda: double.aborted == 1)


async def test_a_client_that_leaves_before_the_first_byte_aborts_it_too(spine: Spine, double: UpstreamDouble) -> None:
    answer = await spine.ask(script(text="a b c d e f", delay=0.2), stream=True)
    assert not isinstance(answer.body, bytes)
    await answer.body.aclose()
    assert (await spine.outcome())[1] == "client_disconnected"
    await _until(lambda: double.aborted == 1)


async def test_a_client_that_leaves_while_waiting_aborts_the_upstream(spine: Spine, double: UpstreamDouble) -> None:
    waiting = asyncio.create_task(spine.ask(script(text="x", delay=1.5)))
    await _until(lambda: len(double.requests) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await spine.outcome())[1] == "client_disconnected"
    await _until(lambda: double.aborted == 1)


async def test_the_task_head_answers_through_the_same_line(spine: Spine) -> None:
    local = LocalUpstream(spine.judge, "scripted")
    pipeline = Pipeline(spine.judge, spine.rules, spine.trail, spine.cases, local, judge_timeout_s=1)
    request = parse_request(b'{"model":"scripted","messages":[{"role":"user","content":"hi"}],"stream":true}')
    found = await events(await pipeline.govern(Call(PRINCIPAL, request, "/v1/chat/completions")))
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in found[:-1]) == "Hello from here"
    other = parse_request(b'{"model":"other","messages":[{"role":"user","content":"hi"}]}')
    answer = await pipeline.govern(Call(PRINCIPAL, other, "/v1/chat/completions"))
    assert (answer.status, body(answer)["error"]["code"]) == (404, NotFoundError("x", code="model_not_found").code)
    await pipeline.drain()


async def test_what_is_recorded_has_no_text_of_the_client(spine: Spine) -> None:
    await spine.ask("very private", model="private-model", user="private-person", private_field=1)
    await spine.pipeline.drain()
    assert "private" not in str([fields for _, _, fields, _ in spine.trail.entries])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.02)
