"""Every wire format over real sockets: allowed, refused, decided by people, answered, and told of every failure."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from gateway import connection, pipeline
from gateway.errors import JudgeUnavailable
from gateway.escalation.case import Case, Kind, Reviewer
from gateway.holding import Patience
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from gateway.wire.sse import EventParser
from tests.doubles import Served, UpstreamDouble, script
from tests.gateway.http.test_endpoints import Stack, until

CALLED = re.compile(rb"call_0|toolu_0")
LONG = Patience(hold_s=20, stream_hold_s=20)


@dataclass(frozen=True)
class Format:
    """How a client of one format asks and reads."""

    path: str
    asked: Callable[[str], dict[str, Any]]
    said: Callable[[Any], str] = lambda _reply: ""
    piece: Callable[[Any], str] = lambda _event: ""
    refused: Callable[[Any], bool] = lambda _reply: False
    end: str = ""
    tool: Any = None

    def ask(self, url: str, text: str, *, headers: Any = None, stream: bool = False, **fields: Any) -> Any:
        """Send a request."""
        fields |= {"stream": True} if stream else {}
        body = orjson.dumps({"model": "m", **self.asked(text), **fields})
        return requests.post(url + self.path, data=body, headers=headers, stream=stream, timeout=60)


def _text_of(message: Any) -> str:
    return "".join(block.get("text", "") for block in message["content"])


def _output(reply: Any) -> str:
    parts = [part for item in reply["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part.get("text") or part.get("refusal") or "" for part in parts)


SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}}
CHAT = Format(
    "/v1/chat/completions",
    lambda text: {"messages": [{"role": "user", "content": text}]},
    lambda reply: reply["choices"][0]["message"]["content"],
    lambda event: (event["choices"][0]["delta"].get("content") or "") if event.get("choices") else "",
    lambda reply: reply["choices"][0]["finish_reason"] == "content_filter",
    "[DONE]",
    {"type": "function", "function": {"name": "send", "parameters": SCHEMA}},
)
RESPONSES = Format(
    "/v1/responses",
    lambda text: {"input": text},
    _output,
    lambda event: event["delta"] if event["type"] in ("response.output_text.delta", "response.refusal.delta") else "",
    lambda reply: reply.get("response", reply)["incomplete_details"] == {"reason": "content_filter"},
    "response.",
    {"type": "function", "name": "send", "parameters": SCHEMA, "strict": True},
)
MESSAGES = Format(
    "/v1/messages",
    lambda text: {"max_tokens": 9, "messages": [{"role": "user", "content": text}]},
    _text_of,
    lambda event: event.get("delta", {}).get("text", ""),
    lambda reply: reply.get("delta", reply).get("stop_reason") == "refusal",
    "message_stop",
    {"name": "send", "input_schema": SCHEMA},
)
COMPLETIONS = Format(
    "/v1/completions",
    lambda text: {"prompt": text},
    lambda reply: reply["choices"][0]["text"],
    lambda event: event["choices"][0]["text"],
    lambda reply: reply["choices"][0]["finish_reason"] == "content_filter",
    "[DONE]",
)
EMBEDDINGS = Format("/v1/embeddings", lambda text: {"input": text})
SPEAKING = (CHAT, RESPONSES, MESSAGES, COMPLETIONS)
ACTING = (CHAT, RESPONSES, MESSAGES)
EVERY = (*SPEAKING, EMBEDDINGS)
of_every = pytest.mark.parametrize("form", EVERY, ids=lambda form: form.path)
of_speaking = pytest.mark.parametrize("form", SPEAKING, ids=lambda form: form.path)
of_acting = pytest.mark.parametrize("form", ACTING, ids=lambda form: form.path)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with UpstreamDouble() as double, Store(DataDirectory(tmp_path / "var")) as store:
        made = Stack(double, store)
        made.rules.hold = Patience(hold_s=0, stream_hold_s=0)
        yield made


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await stack.api.close()
            await stack.upstream.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await stack.api(scope, receive, send)

    with Served(app) as served:
        yield served.url


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made


def events(data: bytes) -> list[Any]:
    parser = EventParser()
    found = parser.feed(data) + parser.close()
    return [each.decode() if each == b"[DONE]" else orjson.loads(each) for each in found]


def read(form: Format, response: Any) -> tuple[str, list[Any]]:
    """Return what a stream said, and its events without the marker that must end it."""
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response.content)
    last = found[-1] if isinstance(found[-1], str) else found[-1]["type"]
    assert last.startswith(form.end)
    assert ("[DONE]" in found) == (form.end == "[DONE]")
    if form is RESPONSES:
        numbers = [event["sequence_number"] for event in found]
        assert numbers == list(range(len(numbers)))
        assert len({event["response"]["id"] for event in found if "response" in event}) == 1
    told = [event for event in found if event != "[DONE]"]
    return "".join(form.piece(event) for event in told), told


def error(form: Format, response: Any) -> dict[str, Any]:
    """Return the error in a response, which must have the shape of its format."""
    body = response.json()
    assert (body.get("type") == "error") == (form is MESSAGES)
    found: dict[str, Any] = body["error"]
    assert found["message"]
    return found


def rule(stack: Stack, kind: Kind, text: str | None = None) -> Case:
    until(lambda: any(case.status == "pending" for case in stack.beside.listing()))
    case = next(case for case in stack.beside.listing() if case.status == "pending")
    return asyncio.run(stack.beside.rule(case.id, Reviewer("ben", case.organization), kind, text=text))


@of_every
def test_what_is_allowed_passes_as_the_upstream_said_it(url: str, stack: Stack, form: Format) -> None:
    response = form.ask(url, "hi")
    assert response.status_code == 200
    assert response.headers["x-so8t-decision"] == "allow"
    assert stack.double.paths == [form.path]
    assert form.said(response.json()) == ("" if form is EMBEDDINGS else "echo: hi")
    assert "governance" not in response.json()


@of_speaking
def test_an_allowed_stream_passes(url: str, form: Format) -> None:
    text, told = read(form, form.ask(url, script(text="one two three"), stream=True))
    assert text.replace(" ", "") == "onetwothree"
    assert not any(form.refused(event) for event in told[-2:] if form is not RESPONSES or "response" in event)


@of_speaking
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_has_the_formats_own_shape(url: str, stack: Stack, form: Format, stream: bool) -> None:
    response = form.ask(url, "REFUSE this", stream=stream)
    assert (response.status_code, response.headers["x-so8t-decision"]) == (200, "refuse")
    if stream:
        text, told = read(form, response)
        assert any(form.refused(event) for event in told[-2:] if form is not RESPONSES or "response" in event)
    else:
        text = form.said(response.json())
        assert form.refused(response.json())
        assert response.json()["governance"]["decision"] == "refuse"
    assert "refused under your organisation's policy" in text
    assert stack.double.requests == []


def test_embeddings_are_refused_with_an_error(url: str, stack: Stack) -> None:
    response = EMBEDDINGS.ask(url, "REFUSE this")
    found = error(EMBEDDINGS, response)
    assert (response.status_code, found["code"], found["governance"]["decision"]) == (400, "content_filter", "refuse")
    assert response.headers["x-should-retry"] == "false"
    assert stack.double.requests == []


@of_every
def test_a_policy_may_prefer_errors(url: str, stack: Stack, form: Format) -> None:
    stack.rules.shape = "error"
    response = form.ask(url, "REFUSE this")
    assert (response.status_code, error(form, response)["code"]) == (400, "content_filter")


@of_every
def test_what_waits_is_a_conflict_until_it_is_approved_once(url: str, stack: Stack, form: Format) -> None:
    held = form.ask(url, "ESCALATE this")
    assert (held.status_code, held.headers["x-should-retry"], held.headers["retry-after"]) == (409, "true", "2")
    found = error(form, held)
    assert (found["code"], found["case"]["status"]) == ("escalation_pending", "pending")
    assert stack.double.requests == []
    rule(stack, "approve")
    answers = [form.ask(url, "ESCALATE this") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.content for answer in answers}) == 1
    assert form.said(answers[0].json()) in ("", "echo: ESCALATE this")
    assert len(stack.double.requests) == 1


@of_every
def test_a_stored_request_is_resumed_in_its_own_format(url: str, stack: Stack, form: Format) -> None:
    at = url + error(form, form.ask(url, "ESCALATE this"))["case"]["url"]
    pending = requests.post(at + "/resume", timeout=20)
    assert (pending.status_code, error(form, pending)["code"]) == (409, "escalation_pending")
    rule(stack, "approve")
    resumed = requests.post(at + "/resume", timeout=20)
    assert (resumed.status_code, stack.double.paths) == (200, [form.path])
    assert form.said(resumed.json()) in ("", "echo: ESCALATE this")


@of_every
@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=30"}])
def test_a_client_that_waits_gets_the_answer(
    url: str, stack: Stack, pool: ThreadPoolExecutor, form: Format, headers: dict[str, str]
) -> None:
    stack.rules.hold = LONG
    waiting: Future[Any] = pool.submit(form.ask, url, "ESCALATE this", headers=headers)
    rule(stack, "approve")
    answer = waiting.result(30)
    assert (answer.status_code, form.said(answer.json())) in ((200, "echo: ESCALATE this"), (200, ""))


@of_speaking
def test_a_stream_that_waits_gets_the_answer(url: str, stack: Stack, pool: ThreadPoolExecutor, form: Format) -> None:
    stack.rules.hold = LONG
    waiting: Future[Any] = pool.submit(form.ask, url, "ESCALATE this", stream=True)
    rule(stack, "approve")
    response = waiting.result(30)
    assert read(form, response)[0] == "echo: ESCALATE this" or form is CHAT
    assert response.content.startswith(b": a human decides\n\n")


@of_speaking
@pytest.mark.parametrize("kind", ["deny", "answer"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_person_says_is_told(
    url: str, stack: Stack, pool: ThreadPoolExecutor, form: Format, kind: Kind, stream: bool
) -> None:
    stack.rules.hold = LONG
    waiting: Future[Any] = pool.submit(form.ask, url, "ESCALATE this", stream=stream)
    rule(stack, kind, "Take the other road." if kind == "answer" else None)
    response = waiting.result(30)
    assert response.status_code == 200
    text, told = read(form, response) if stream else (form.said(response.json()), [response.json()])
    last = [event for event in told[-2:] if not stream or form is not RESPONSES or "response" in event]
    assert any(form.refused(event) for event in last) == (kind == "deny")
    assert text == "Take the other road." if kind == "answer" else "A reviewer denied this request" in text
    assert stack.double.requests == []


@pytest.mark.parametrize(("kind", "code"), [("deny", "content_filter"), ("answer", "answered")])
def test_embeddings_tell_what_a_person_said_as_an_error(url: str, stack: Stack, kind: Kind, code: str) -> None:
    assert EMBEDDINGS.ask(url, "ESCALATE this").status_code == 409
    rule(stack, kind, "Not these." if kind == "answer" else None)
    response = EMBEDDINGS.ask(url, "ESCALATE this")
    assert (response.status_code, error(EMBEDDINGS, response)["code"]) == (400, code)
    assert response.headers["x-should-retry"] == "false"


@of_speaking
def test_a_stream_that_waited_long_enough_ends_with_an_error(url: str, stack: Stack, form: Format) -> None:
    stack.rules.hold = Patience(hold_s=0.5, stream_hold_s=0.5)
    last = events(form.ask(url, "ESCALATE this", stream=True).content)[-1]
    assert last["error"]["code"] == "escalation_pending"
    assert ("type" in last) == (form in (MESSAGES, RESPONSES))


def test_an_answer_that_is_open_tells_an_error_as_a_refusal(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection, pipeline):
        monkeypatch.setattr(module, "BEAT_S", 0.2)
    for form in SPEAKING:
        response = form.ask(url, f"ESCALATE {form.path}", headers={"Prefer": "wait=1"})
        assert response.status_code == 200
        assert form.refused(response.json())
        assert response.json()["governance"]["code"] == "escalation_pending"


@of_every
@pytest.mark.parametrize("stream", [False, True])
def test_without_a_verdict_nothing_is_forwarded(url: str, stack: Stack, form: Format, stream: bool) -> None:
    stack.judge.failure = JudgeUnavailable("crashed", "it died")
    response = form.ask(url, "hi", stream=stream and form is not EMBEDDINGS)
    assert (response.status_code, error(form, response)["code"]) == (503, "judge_unavailable")
    assert response.headers["x-so8t-decision"] == "unavailable"
    assert stack.double.requests == []


@of_acting
@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_action_is_not_released(url: str, form: Format, stream: bool) -> None:
    asked = script(text="so be it", tools=[["send", '{"to":"REFUSE"}']])
    response = form.ask(url, asked, stream=stream, tools=[form.tool])
    assert response.status_code == 200
    text, told = read(form, response) if stream else (form.said(response.json()), [response.json()])
    assert not CALLED.search(response.content)
    assert "The action that the model proposed was refused" in text
    assert "sobeit" in text.replace(" ", "") or not stream
    last = [event for event in told[-2:] if not stream or form is not RESPONSES or "response" in event]
    assert any(form.refused(event) for event in last)


@of_acting
@pytest.mark.parametrize("kind", ["approve", "deny", "answer"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_held_action_is_released_or_replaced(
    url: str, stack: Stack, pool: ThreadPoolExecutor, form: Format, kind: Kind, stream: bool
) -> None:
    stack.rules.hold = LONG
    asked = script(text="so be it", tools=[["send", '{"to":"ESCALATE"}']])
    waiting: Future[Any] = pool.submit(form.ask, url, asked, stream=stream, tools=[form.tool])
    rule(stack, kind, "Call them instead." if kind == "answer" else None)
    response = waiting.result(30)
    assert response.status_code == 200
    text, told = read(form, response) if stream else (form.said(response.json()) or "", [response.json()])
    assert bool(CALLED.search(response.content)) == (kind == "approve")
    last = [event for event in told[-2:] if not stream or form is not RESPONSES or "response" in event]
    assert any(form.refused(event) for event in last) == (kind == "deny")
    assert ("Call them instead." in text) == (kind == "answer")
    assert ("so" in text) or not stream
    assert len(stack.double.requests) == 1
    if form is MESSAGES and stream:
        assert [event["type"] for event in told].count("message_start") == 1
    if form is RESPONSES and stream:
        assert [event["type"] for event in told].count("response.created") == 1


@of_every
def test_an_upstreams_error_keeps_its_status_in_the_formats_shape(url: str, form: Format) -> None:
    response = form.ask(url, script(status=429, text="slow down"))
    found = error(form, response)
    assert (response.status_code, found["message"], response.headers["retry-after"]) == (429, "slow down", "7")


@of_every
def test_an_upstreams_garbage_is_an_error_in_the_formats_shape(url: str, form: Format) -> None:
    response = form.ask(url, script(raw="<html>"))
    assert (response.status_code, error(form, response)["code"]) == (502, "upstream_invalid")


@of_speaking
def test_a_stream_that_breaks_off_says_so(url: str, form: Format) -> None:
    last = events(form.ask(url, script(text="a b c d", cut=3), stream=True).content)[-1]
    assert last["error"]["code"] == "upstream_invalid"
    assert last.get("type", "error") == "error"


@of_every
def test_errors_before_the_line_have_the_formats_shape(url: str, stack: Stack, form: Format) -> None:
    for method, data, status in (
        ("POST", b"{", 400),
        ("POST", b"{}", 400),
        ("GET", None, 405),
        ("POST", b"x" * 20_000, 413),
    ):
        response = requests.request(method, url + form.path, data=data, timeout=5)
        assert response.status_code == status
        error(form, response)
    stack.keys.keys["right"] = Principal("acme", "1", "ann")
    response = form.ask(url, "hi", headers={"x-api-key": "wrong"})
    assert (response.status_code, error(form, response)["code"]) == (401, "invalid_api_key")
    assert error(MESSAGES, requests.post(url + "/v1/messages/count_tokens", timeout=5))["type"] == "not_found_error"


@of_every
def test_a_key_comes_as_a_bearer_or_by_itself(url: str, stack: Stack, form: Format) -> None:
    stack.keys.keys |= {"right": Principal("acme", "1", "ann"), "other": Principal("acme", "2", "eve")}
    both = {"authorization": "Bearer right", "x-api-key": "right"}
    for headers in ({"authorization": "Bearer right"}, {"x-api-key": "right"}, both):
        assert form.ask(url, "hi", headers=headers).status_code == 200
    for headers in (both | {"x-api-key": "other"}, {"x-api-key": ""}, {"authorization": "Basic right"}):
        assert form.ask(url, "hi", headers=headers).status_code == 401
    sent = {name.lower() for headers in stack.double.headers for name in headers}
    assert not sent & {"authorization", "x-api-key"}


def test_the_version_of_the_messages_api_is_told_when_it_is_a_date(url: str, stack: Stack) -> None:
    for version in ("2023-01-01", "2024-01-01; x", None):
        headers = {} if version is None else {"anthropic-version": version}
        assert MESSAGES.ask(url, "hi", headers=headers).status_code == 200
    assert [headers["anthropic-version"] for headers in stack.double.headers] == [
        "2023-01-01",
        "2023-06-01",
        "2023-06-01",
    ]
    assert CHAT.ask(url, "hi", headers={"anthropic-version": "2023-01-01"}).status_code == 200
    assert "anthropic-version" not in stack.double.headers[-1]


def test_an_approval_holds_for_the_version_that_asked(url: str, stack: Stack) -> None:
    old = {"anthropic-version": "2023-01-01"}
    assert MESSAGES.ask(url, "ESCALATE", headers=old).status_code == 409
    rule(stack, "approve")
    assert MESSAGES.ask(url, "ESCALATE").status_code == 409
    assert MESSAGES.ask(url, "ESCALATE", headers=old).status_code == 200
    assert [headers["anthropic-version"] for headers in stack.double.headers] == ["2023-01-01"]


class Later:
    """A client that asks for background responses."""

    def __init__(self, url: str, key: str = "ann") -> None:
        self.url = url
        self.headers = {"authorization": f"Bearer {key}"}

    def start(self, text: str, **fields: Any) -> Any:
        response = RESPONSES.ask(self.url, text, headers=self.headers, background=True, **fields)
        assert response.status_code == 200
        return response.json()

    def look(self, response_id: str, path: str = "", method: str = "GET") -> Any:
        at = f"{self.url}/v1/responses/{response_id}{path}"
        return requests.request(method, at, headers=self.headers, timeout=10)

    def result(self, response_id: str) -> Any:
        deadline = time.monotonic() + 20
        while (found := self.look(response_id).json())["status"] in ("queued", "in_progress"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return found


@pytest.fixture
def later(url: str, stack: Stack) -> Later:
    stack.keys.keys |= {"ann": Principal("acme", "1", "ann"), "eve": Principal("acme", "2", "eve")}
    return Later(url)


def test_a_background_response_is_queued_and_fetched(url: str, stack: Stack, later: Later) -> None:
    queued = later.start(script(text="done", delay=0.3))
    assert (queued["status"], queued["background"], queued["output"]) == ("queued", True, [])
    assert later.look(queued["id"]).json()["status"] == "in_progress"
    done = later.result(queued["id"])
    assert (done["id"], done["status"], done["background"], _output(done)) == (queued["id"], "completed", True, "done")
    assert later.look(queued["id"]).headers["x-so8t-decision"] == "allow"
    assert "background" not in stack.double.requests[0]
    eve = Later(url, "eve")
    for other in (eve.look(queued["id"]), eve.look(queued["id"], "/cancel", "POST"), later.look("resp_1")):
        assert (other.status_code, error(RESPONSES, other)["code"]) == (404, "not_found")
    assert later.look(queued["id"] + "?stream=true").status_code == 400
    assert later.look(queued["id"], method="DELETE").status_code == 405


def test_a_background_response_is_refused_or_fails(stack: Stack, later: Later) -> None:
    refused = later.result(later.start("REFUSE this")["id"])
    assert (refused["status"], refused["governance"]["decision"]) == ("incomplete", "refuse")
    assert later.result(later.start(script(status=500, text="no"))["id"])["error"]["message"] == "no"
    stack.judge.failure = JudgeUnavailable("crashed", "it died")
    failed = later.result(later.start("hi")["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")


def test_a_background_response_waits_for_people(stack: Stack, later: Later) -> None:
    queued = later.start("ESCALATE this")
    until(lambda: len(stack.beside.listing()) == 1)
    for _ in range(3):
        assert later.look(queued["id"]).json()["status"] == "in_progress"
        time.sleep(0.1)
    rule(stack, "approve")
    assert _output(later.result(queued["id"])) == "echo: ESCALATE this"
    assert len(stack.double.requests) == 1


def test_a_background_response_is_cancelled(stack: Stack, later: Later) -> None:
    queued = later.start(script(text="x", delay=5))
    until(lambda: len(stack.double.requests) == 1)
    for _ in range(2):
        assert later.look(queued["id"], "/cancel", "POST").json()["status"] == "cancelled"
    assert later.look(queued["id"]).json()["status"] == "cancelled"
    until(lambda: stack.double.aborted == 1)
    done = later.start("hi")["id"]
    later.result(done)
    assert later.look(done, "/cancel", "POST").json()["status"] == "completed"
