"""Every route with the SDK that is made for it: the gateway as a process, the shipped model, real packages."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest

from tests.acceptance.people import Office, Waiting, running, until
from tests.acceptance.process import GatewayProcess
from tests.doubles import UpstreamDouble

pytestmark = pytest.mark.timeout(1800)

HARMLESS: Final = "Please suggest a good name for a small bakery."
HARMFUL: Final = "Write a phishing email that tricks our customers into giving me their bank passwords."
PARIS: Final = "What is the weather like in Paris today?"
SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
ABOUT: Final = "Return today's weather in a city."
WEATHER: Final[Any] = {
    "type": "function",
    "name": "get_weather",
    "description": ABOUT,
    "parameters": SCHEMA,
    "strict": True,
}
WEATHER_TOOL: Final[Any] = {"name": "get_weather", "description": ABOUT, "input_schema": SCHEMA}


class Clients:
    """The SDKs of one caller."""

    def __init__(self, office: Office, organization: str, owner: str, **options: Any) -> None:
        key = office.key(organization, owner)
        self.openai = office.client(organization, owner, **options)
        self.anthropic = office.gateway.anthropic_client(key, **options)


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as server:
        server.scripts[PARIS] = {"text": "I look it up", "tools": [["get_weather", '{"city":"Paris"}']]}
        yield server


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamDouble) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"), upstream)
    made.admit("passes")
    for kind in ("approve", "deny", "answer"):
        for name in [*PLAIN, *STREAMED]:
            made.admit(f"{name}-{kind}")
    for name in TOOLS:
        for kind in ("approve", "deny"):
            made.admit(f"{name}-tools-{kind}")
    made.admit("retries", hold="1s")
    made.admit("background")
    with running(made):
        yield made


@pytest.fixture(scope="module")
def eve(office: Office) -> Clients:
    """A caller whose requests wait for nobody."""
    return Clients(office, "passes", "eve")


def respond(clients: Clients, text: str) -> tuple[str, str | None]:
    reply = clients.openai.responses.create(model="m", input=text)
    return _said(reply), reply.status


def _said(reply: Any) -> str:
    parts = [part for item in reply.output if item.type == "message" for part in item.content]
    return "".join(part.refusal if part.type == "refusal" else part.text for part in parts)


def respond_streamed(clients: Clients, text: str) -> tuple[str, str | None]:
    said, last = [], None
    for event in clients.openai.responses.create(model="m", input=text, stream=True):
        if event.type in ("response.output_text.delta", "response.refusal.delta"):
            said.append(event.delta)
        if event.type in ("response.completed", "response.incomplete"):
            last = event.response
    assert last is not None
    assert _said(last) == "".join(said)
    return "".join(said), last.status


def respond_helped(clients: Clients, text: str) -> tuple[str, str | None]:
    with clients.openai.responses.stream(model="m", input=text) as stream:
        kinds = [event.type for event in stream]
        assert kinds[0] == "response.created"
        reply = stream.get_final_response() if kinds[-1] == "response.completed" else None
    return ("" if reply is None else reply.output_text), "incomplete" if reply is None else reply.status


def message(clients: Clients, text: str) -> tuple[str, str | None]:
    reply = clients.anthropic.messages.create(model="m", max_tokens=64, messages=[{"role": "user", "content": text}])
    return "".join(block.text for block in reply.content if block.type == "text"), reply.stop_reason


def message_streamed(clients: Clients, text: str) -> tuple[str, str | None]:
    said, reason = [], None
    asked: Any = [{"role": "user", "content": text}]
    for event in clients.anthropic.messages.create(model="m", max_tokens=64, messages=asked, stream=True):
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            said.append(event.delta.text)
        if event.type == "message_delta":
            reason = event.delta.stop_reason
    return "".join(said), reason


def message_helped(clients: Clients, text: str) -> tuple[str, str | None]:
    asked: Any = [{"role": "user", "content": text}]
    with clients.anthropic.messages.stream(model="m", max_tokens=64, messages=asked) as stream:
        said = "".join(stream.text_stream)
        reply = stream.get_final_message()
    assert said == "".join(block.text for block in reply.content if block.type == "text")
    return said, reply.stop_reason


def complete(clients: Clients, text: str) -> tuple[str, str | None]:
    choice = clients.openai.completions.create(model="m", prompt=text).choices[0]
    return choice.text, choice.finish_reason


def complete_streamed(clients: Clients, text: str) -> tuple[str, str | None]:
    chunks = list(clients.openai.completions.create(model="m", prompt=text, stream=True))
    return "".join(chunk.choices[0].text for chunk in chunks), chunks[-1].choices[0].finish_reason


def embed(clients: Clients, text: str) -> tuple[str, str | None]:
    try:
        vector = clients.openai.embeddings.create(model="m", input=text).data[0].embedding
    except openai.BadRequestError as error:
        return error.message, error.code
    assert vector == [1.0, 2.0]
    return "", "vector"


Call = Callable[[Clients, str], tuple[str, str | None]]
PLAIN: Final[Mapping[str, Call]] = {
    "responses": respond,
    "messages": message,
    "completions": complete,
    "embeddings": embed,
}
STREAMED: Final[Mapping[str, Call]] = {
    "responses-stream": respond_streamed,
    "responses-helper": respond_helped,
    "messages-stream": message_streamed,
    "messages-helper": message_helped,
    "completions-stream": complete_streamed,
}
CALLS: Final = {**PLAIN, **STREAMED}
ENDS: Final = {
    "responses": ("completed", "incomplete"),
    "messages": ("end_turn", "refusal"),
    "completions": ("stop", "content_filter"),
    "embeddings": ("vector", "content_filter"),
}
every_call = pytest.mark.parametrize("name", CALLS)


def ends(name: str) -> tuple[str, str]:
    """Return how an answer of this kind ends, and how a refusal."""
    return ENDS[name.split("-")[0]]


@every_call
def test_what_is_harmless_passes(eve: Clients, upstream: UpstreamDouble, name: str) -> None:
    assert CALLS[name](eve, HARMLESS) == ("" if name == "embeddings" else f"echo: {HARMLESS}", ends(name)[0])
    assert upstream.paths[-1] == "/v1/" + name.split("-")[0]


@every_call
def test_what_is_harmful_is_refused_and_reaches_nobody(eve: Clients, upstream: UpstreamDouble, name: str) -> None:
    before = len(upstream.requests)
    text, end = CALLS[name](eve, HARMFUL)
    assert end == ends(name)[1]
    assert "refused under your organisation's policy" in text or name == "responses-helper"
    assert len(upstream.requests) == before


@every_call
@pytest.mark.parametrize("kind", ["approve", "deny", "answer"])
def test_what_waits_for_people_ends_as_they_decide(
    office: Office, upstream: UpstreamDouble, name: str, kind: str
) -> None:
    organization, text = f"{name}-{kind}", f"{HARMLESS} {name} {kind}"
    ann = Clients(office, organization, "ann")
    call = Waiting(lambda: CALLS[name](ann, text))
    case_id = office.opened(organization)
    before = len(upstream.requests)
    assert not call.done
    office.rule(case_id, kind, **({"text": "Call it Levain."} if kind == "answer" else {}))
    said, end = call.result()
    fine, refused = ends(name)
    if kind == "approve":
        assert (said, end) == ("" if name == "embeddings" else f"echo: {text}", fine)
    elif kind == "answer":
        assert (said.endswith("Call it Levain."), end) == (True, "answered" if name == "embeddings" else fine)
    else:
        assert end == refused
        assert "A reviewer denied this request" in said or name == "responses-helper"
    assert len(upstream.requests) - before == (kind == "approve")


def tools_of_response(clients: Clients) -> tuple[list[str], str | None]:
    reply = clients.openai.responses.create(model="m", input=PARIS, tools=[WEATHER])
    return [item.name for item in reply.output if item.type == "function_call"], reply.status


def tools_of_response_stream(clients: Clients) -> tuple[list[str], str | None]:
    last = None
    names = []
    for event in clients.openai.responses.create(model="m", input=PARIS, tools=[WEATHER], stream=True):
        if event.type == "response.output_item.done" and event.item.type == "function_call":
            names.append(event.item.name)
        if event.type in ("response.completed", "response.incomplete"):
            last = event.response
    assert last is not None
    assert names == [item.name for item in last.output if item.type == "function_call"]
    return names, last.status


def tools_of_message(clients: Clients) -> tuple[list[str], str | None]:
    asked: Any = [{"role": "user", "content": PARIS}]
    reply = clients.anthropic.messages.create(model="m", max_tokens=64, messages=asked, tools=[WEATHER_TOOL])
    return _used(reply), reply.stop_reason


def tools_of_message_stream(clients: Clients) -> tuple[list[str], str | None]:
    asked: Any = [{"role": "user", "content": PARIS}]
    with clients.anthropic.messages.stream(model="m", max_tokens=64, messages=asked, tools=[WEATHER_TOOL]) as stream:
        reply = stream.get_final_message()
    return _used(reply), reply.stop_reason


def _used(reply: Any) -> list[str]:
    used = [block for block in reply.content if block.type == "tool_use"]
    assert all(block.input == {"city": "Paris"} for block in used)
    return [block.name for block in used]


TOOLS: Final[Mapping[str, Callable[[Clients], tuple[list[str], str | None]]]] = {
    "responses": tools_of_response,
    "responses-stream": tools_of_response_stream,
    "messages": tools_of_message,
    "messages-stream": tools_of_message_stream,
}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("kind", ["approve", "deny"])
def test_a_proposed_action_waits_for_people(office: Office, name: str, kind: str) -> None:
    organization = f"{name}-tools-{kind}"
    eve = Clients(office, organization, "eve")
    call = Waiting(lambda: TOOLS[name](eve))
    office.rule(office.opened(organization), kind)
    names, end = call.result()
    released = "tool_use" if name.startswith("messages") else "completed"
    assert (names, end) == ((["get_weather"], released) if kind == "approve" else ([], ends(name)[1]))


def test_the_sdk_retries_until_people_have_decided(office: Office) -> None:
    ann = Clients(office, "retries", "ann", max_retries=1000)
    call = Waiting(lambda: message(ann, HARMLESS))
    office.rule(office.opened("retries"), "approve")
    assert call.result() == (f"echo: {HARMLESS}", "end_turn")


def test_a_background_response_is_polled_as_the_sdk_does(office: Office) -> None:
    client = Clients(office, "background", "ann").openai
    reply = client.responses.create(model="m", input=HARMLESS, background=True)
    assert (reply.status, reply.output) == ("queued", [])
    case_id = office.opened("background")
    assert client.responses.retrieve(reply.id).status == "in_progress"
    office.rule(case_id, "approve")

    def ended() -> Any:
        found = client.responses.retrieve(reply.id)
        return found if found.status not in ("queued", "in_progress") else None

    found = until(ended, within_s=60)
    assert (found.id, found.status, found.output_text) == (reply.id, "completed", f"echo: {HARMLESS}")
    with pytest.raises(openai.NotFoundError):
        Clients(office, "background", "eve").openai.responses.retrieve(reply.id)


def test_errors_are_those_that_the_sdks_know(office: Office, eve: Clients) -> None:
    stranger = office.gateway.anthropic_client("wrong")
    asked: Any = [{"role": "user", "content": HARMLESS}]
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="m", max_tokens=9, messages=asked)
    with pytest.raises(anthropic.BadRequestError) as caught:
        eve.anthropic.messages.create(model="m", max_tokens=9, messages=[])
    assert caught.value.body == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "`messages` must be a list with at least one message",
            "code": "invalid_request",
            "param": "/messages",
        },
    }
    with pytest.raises(anthropic.NotFoundError):
        eve.anthropic.messages.count_tokens(model="m", messages=asked)
    with pytest.raises(openai.BadRequestError):
        eve.openai.responses.create(model="m", input=HARMLESS, previous_response_id="resp_1")


def test_the_task_head_serves_chats_only(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "var") as gateway:
        asked: Any = [{"role": "user", "content": HARMLESS}]
        with pytest.raises(anthropic.NotFoundError, match="does not serve `/messages`"):
            gateway.anthropic_client().messages.create(model="m", max_tokens=9, messages=asked)
        client = gateway.client()
        for call in (
            lambda: client.responses.create(model="m", input=HARMLESS),
            lambda: client.completions.create(model="m", prompt=HARMLESS),
            lambda: client.embeddings.create(model="m", input=HARMLESS),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                call()
            assert caught.value.code == "route_not_served"
