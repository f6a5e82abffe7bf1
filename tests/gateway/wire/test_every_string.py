"""No string of a request or reply is lost: whatever field or key of the SDKs' own types holds it, the judge sees it.

The types are the openai and anthropic packages' models, walked whole. Each string and each key of each type gets a
marker in turn. It must be in what the judge reads, or below a pointer that is listed as unjudged, or be one of the
marks where it has no room for a sentence, or the request must be refused.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming as BetaMessageRequest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as MessageRequest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming as ChatRequest
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming as CompletionRequest
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming as ResponsesRequest

from gateway.errors import RequestError, UpstreamError
from gateway.parts import Conversation
from gateway.wire.format import Reply, WireFormat, reply_views
from gateway.wire.routes import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from gateway.wire.sse import write_event
from gateway.wire.strict import dumps
from tests.gateway.wire.type_samples import fill, pointer, slots

SENTENCE: Final = "the marker that says what to do now"
NAME: Final = "marker7f3a"

Read = Callable[[Any], list[Conversation]]
Places = Callable[[str, Any], list[str]]

REQUIRED: Final[dict[str, dict[str, Any]]] = {"responses": {"model": "m", "input": "x"}}
"""Fields that a request needs, where the SDK's type does not say so."""
REFUSED_ANYWAY: Final[dict[str, set[str]]] = {
    "chat": {"/function_call", "/functions", "/messages/0/role", "/messages/0/function_call"},
    "responses": {"/previous_response_id", "/conversation", "/input/0"},
    "messages": set(),
    "completions": set(),
    "embeddings": set(),
}
"""Fields that are not served: with a harmless value too, the request is refused."""


def seen(views: list[Conversation], text: str) -> bool:
    """Tell whether the judge reads ``text`` in any of ``views``."""
    return any(
        text in part
        for view in views
        for part in (
            *(message.text for message in view.messages),
            *(each for message in view.messages for call in message.tool_calls for each in (call.name, call.arguments)),
            *(each for tool in view.tools for each in (tool.name, tool.text)),
        )
    )


def outcome(views: list[Conversation], text: str, places: Sequence[str]) -> str:
    """Return what became of ``text``, which stands at one of ``places``."""
    if seen(views, text):
        return "judged"
    parts = [part.pointer for view in views for part in view.unjudged]
    if any(at == part or at.startswith(f"{part}/") for at in places for part in parts):
        return "unjudged"
    if text == NAME and any(text in mark.text for view in views for mark in view.marks):
        return "mark"
    return "silent"


def here(at: str, _event: Any) -> list[str]:
    return [at]


def walk(kind: Any, read: Read, places: Places = here) -> Iterator[tuple[str, str, str]]:
    """Yield for every string and key of ``kind``: the text, where it stands and what became of it."""
    for sample in slots(kind):
        for text in (SENTENCE, NAME):
            at = pointer(sample, text)
            assert at is not None
            body = fill(sample, text)
            try:
                views = read(body)
            except (RequestError, UpstreamError):
                yield text, at, "refused"
            else:
                yield text, at, outcome(views, text, places(at, body))


def silent(kind: Any, read: Read, places: Places = here) -> tuple[list[str], Counter[str]]:
    found = Counter[str]()
    lost = []
    for text, at, became in walk(kind, read, places):
        found[became] += 1
        if became == "silent":
            lost.append(f"{at} ({'a sentence' if text == SENTENCE else 'a name'})")
    return list(dict.fromkeys(lost)), found


REQUESTS = [
    pytest.param(CHAT, ChatRequest, id="chat"),
    pytest.param(RESPONSES, ResponsesRequest, id="responses"),
    pytest.param(MESSAGES, MessageRequest, id="messages"),
    pytest.param(MESSAGES, BetaMessageRequest, id="messages beta"),
    pytest.param(COMPLETIONS, CompletionRequest, id="completions"),
    pytest.param(EMBEDDINGS, EmbeddingCreateParams, id="embeddings"),
]


@pytest.mark.parametrize(("wire", "kind"), REQUESTS)
def test_no_string_of_a_request_is_silent(wire: WireFormat, kind: Any) -> None:
    needed = REQUIRED.get(wire.name, {})
    lost, found = silent(kind, lambda body: [wire.parse_request(dumps(needed | body)).conversation])
    assert lost == []
    assert found["judged"] > found["refused"] / 4, found


@pytest.mark.parametrize(("wire", "kind"), REQUESTS)
def test_a_request_without_a_marker_is_served(wire: WireFormat, kind: Any) -> None:
    """Else a refusal in the test above would say nothing about the marker."""
    refused: dict[str, str] = {}
    for sample in slots(kind):
        body = REQUIRED.get(wire.name, {}) | fill(sample, None)
        try:
            wire.parse_request(dumps(body))
        except RequestError as error:
            refused.setdefault(error.param or "", f"{error.message}: {body}")
    assert {at: why for at, why in refused.items() if at not in REFUSED_ANYWAY[wire.name]} == {}


REPLIES = [
    pytest.param(CHAT, ChatCompletion, id="chat"),
    pytest.param(RESPONSES, Response, id="responses"),
    pytest.param(MESSAGES, Message, id="messages"),
    pytest.param(MESSAGES, BetaMessage, id="messages beta"),
    pytest.param(COMPLETIONS, Completion, id="completions"),
    pytest.param(EMBEDDINGS, CreateEmbeddingResponse, id="embeddings"),
]


def views_of(reply: Reply) -> list[Conversation]:
    return reply_views(Conversation(()), reply, reply.choices)


@pytest.mark.parametrize(("wire", "kind"), REPLIES)
def test_no_string_of_a_reply_is_silent(wire: WireFormat, kind: Any) -> None:
    lost, found = silent(kind, lambda body: views_of(wire.parse_reply(dumps(body))))
    assert lost == []
    assert found["refused"] == 0 or wire is CHAT, found


INDICES: Final = ("output_index", "content_index", "summary_index", "command_index", "annotation_index")
STREAMS = [
    pytest.param(CHAT, ChatCompletionChunk, id="chat"),
    pytest.param(RESPONSES, ResponseStreamEvent, id="responses"),
    pytest.param(MESSAGES, RawMessageStreamEvent, id="messages"),
    pytest.param(MESSAGES, BetaRawMessageStreamEvent, id="messages beta"),
    pytest.param(COMPLETIONS, Completion, id="completions"),
]


def places_in_reply(at: str, event: Any) -> list[str]:
    """Return where a string of an event stands in the reply that the events add up to."""
    output, content = f"/output/{event.get('output_index')}", f"/content/{event.get('index')}"
    first, rest = at.split("/", 2)[1], at.split("/", 2)[2:]
    tail = "".join(f"/{part}" for part in rest)
    family = str(event.get("type")).removeprefix("response.").rsplit(".", 1)[0]
    return [
        at.replace("/choices/0/delta", "/choices/1/message"),
        at.replace("/choices/0/delta/function_call", "/choices/1/message/tool_calls/0/function"),
        at.replace("/response/output", "/output"),
        at.replace("/message/content", "/content"),
        f"{output}{tail}" if first == "item" else f"{output}/arguments",
        f"{content}{tail}" if first in ("content_block", "delta") else content,
        f"/events/{family}{''.join(f'/{event[name]}' for name in INDICES if name in event)}",
    ]


@pytest.mark.parametrize(("wire", "kind"), STREAMS)
def test_no_string_of_an_event_is_silent(wire: WireFormat, kind: Any) -> None:
    def read(event: Any) -> list[Conversation]:
        held = wire.hold()
        held.feed(write_event(dumps(event)))
        return views_of(held.parsed())

    lost, found = silent(kind, read, places_in_reply)
    assert lost == []
    assert found["refused"] <= found["judged"], found
