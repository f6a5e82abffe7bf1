"""Answers of the gateway's own are what each SDK's models read, whole and as events."""

import json
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.errors import UpstreamError
from gateway.wire.format import HeldStream, Notice, Problem, WireFormat
from gateway.wire.responses_shapes import approval_request, failed, waiting
from gateway.wire.routes import CHAT, COMPLETIONS, EMBEDDINGS, FORMATS, MESSAGES, RESPONSES
from gateway.wire.sse import EventParser, write_event
from gateway.wire.strict import dumps

NOTICE = Notice("not this", "m", governance={"decision": "refuse", "decision_id": "d"})
PROBLEM = Problem(409, "wait", "invalid_request_error", "escalation_pending", extra={"case": {"id": "c"}})
SPEAKING = [CHAT, RESPONSES, MESSAGES, COMPLETIONS]
WHOLE: dict[str, Any] = {
    "chat": ChatCompletion,
    "responses": Response,
    "messages": AnthropicMessage,
    "completions": Completion,
}
EVENTS: dict[str, Any] = {
    "chat": ChatCompletionChunk,
    "responses": ResponseStreamEvent,
    "messages": RawMessageStreamEvent,
    "completions": Completion,
}


def events(data: list[bytes]) -> list[dict[str, Any]]:
    found = EventParser().feed(b"".join(data))
    return [json.loads(event) for event in found if event != b"[DONE]"]


def feed(stream: HeldStream, *sent: dict[str, Any]) -> list[dict[str, Any]]:
    return events([stream.feed(b"".join(write_event(dumps(event)) for event in sent))])


@pytest.mark.parametrize("wire", SPEAKING, ids=lambda wire: wire.name)
def test_whole_answers_are_valid_and_say_what_they_are(wire: WireFormat) -> None:
    model = TypeAdapter[Any](WHOLE[wire.name])
    refusal, answer = json.loads(wire.refusal(NOTICE)), json.loads(wire.answer(NOTICE))
    for body in (refusal, answer):
        model.validate_python(body)
        assert body["governance"]["decision"] == "refuse"
        reply = wire.parse_reply(dumps(body))
        assert "not this" in reply.choices[0].message.text
        assert not reply.acting
    if wire is RESPONSES:
        assert (refusal["status"], refusal["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
        assert refusal["output"][0]["content"] == [{"type": "refusal", "refusal": "not this"}]
        assert answer["status"] == "completed"
    elif wire is MESSAGES:
        assert (refusal["stop_reason"], answer["stop_reason"]) == ("refusal", "end_turn")
    else:
        assert [body["choices"][0]["finish_reason"] for body in (refusal, answer)] == ["content_filter", "stop"]


@pytest.mark.parametrize("wire", SPEAKING, ids=lambda wire: wire.name)
def test_streamed_answers_are_valid_and_read_as_themselves(wire: WireFormat) -> None:
    model = TypeAdapter[Any](EVENTS[wire.name])
    for sent in (wire.refusal_events(NOTICE), wire.answer_events(NOTICE)):
        for event in events(sent):
            model.validate_python(event)
        stream = wire.hold()
        stream.feed(b"".join(sent))
        stream.finish()
        assert "not this" in stream.parsed().choices[0].message.text
        assert not stream.acts


@pytest.mark.parametrize("wire", FORMATS.values(), ids=lambda wire: wire.name)
def test_errors_carry_code_and_case(wire: WireFormat) -> None:
    body = json.loads(wire.error(PROBLEM))
    assert (body["error"]["code"], body["error"]["case"]) == ("escalation_pending", {"id": "c"})
    assert body.get("type") == ("error" if wire is MESSAGES else None)
    (event,) = events(wire.error_events(PROBLEM))
    assert event["error"]["code"] == "escalation_pending"
    with pytest.raises(UpstreamError):
        CHAT.hold().feed(write_event(dumps(event)))


def test_embeddings_have_no_refusal_but_an_error() -> None:
    assert EMBEDDINGS.refusal(NOTICE) == b""
    assert not EMBEDDINGS.streams


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_a_background_response_can_be_asked_for_again(status: Any) -> None:
    body = json.loads(waiting(Notice("", "m", id="resp_1"), status))
    Response.model_validate(body)
    assert (body["id"], body["status"], body["output"]) == ("resp_1", status, [])
    ended = Response.model_validate_json(failed(Notice("", "m"), PROBLEM))
    assert ended.error is not None
    assert ended.error.message == "wait"


def test_an_approval_item_is_native_and_counts_as_an_action() -> None:
    body = approval_request(Notice("", "m"), "a-b", "send", "{}")
    assert Response.model_validate_json(body).output[0].type == "mcp_approval_request"
    assert RESPONSES.parse_reply(body).acting


def test_a_response_that_has_begun_ends_with_a_refusal_item() -> None:
    stream = RESPONSES.hold()
    started = json.loads(waiting(Notice("", "up", id="resp_9"), "in_progress"))
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "send", "arguments": ""}
    passed = feed(
        stream,
        {"type": "response.created", "sequence_number": 0, "response": started},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": message},
        {"type": "response.content_part.added", "sequence_number": 2, **where, "part": part},
        {"type": "response.output_text.delta", "sequence_number": 3, **where, "delta": "Sending", "logprobs": []},
        {"type": "response.output_item.added", "sequence_number": 4, "output_index": 1, "item": call},
        {"type": "response.function_call_arguments.delta", "sequence_number": 5, "output_index": 1, "delta": '{"to":'},
        {"type": "response.function_call_arguments.delta", "sequence_number": 6, "output_index": 1, "delta": '"x"}'},
    )
    assert [event["sequence_number"] for event in passed] == [0, 1, 2, 3]
    assert stream.acts
    (choice,) = stream.parsed().acting
    assert [(one.name, one.arguments) for one in choice.message.tool_calls] == [("send", '{"to":"x"}')]
    ending = events(stream.refusal(NOTICE))
    assert [event["sequence_number"] for event in ending] == list(range(4, 11))
    assert ending[0]["type"] == "response.output_item.added"
    final = ending[-1]["response"]
    assert (final["id"], final["status"]) == ("resp_9", "incomplete")
    assert [item["content"][0].get("text") or item["content"][0]["refusal"] for item in final["output"]] == [
        "Sending",
        "not this",
    ]


def test_a_message_that_has_begun_closes_its_block_and_refuses() -> None:
    stream = MESSAGES.hold()
    call = {"type": "tool_use", "id": "t", "name": "send", "input": {}}
    passed = feed(
        stream,
        {"type": "message_start", "message": {"id": "msg_1", "model": "up", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Sending"}},
        {"type": "content_block_start", "index": 1, "content_block": call},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"to":'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '"x"}'}},
    )
    assert len(passed) == 3
    (choice,) = stream.parsed().acting
    assert [(one.name, one.arguments) for one in choice.message.tool_calls] == [("send", '{"to":"x"}')]
    ending = events(stream.refusal(NOTICE))
    assert [(event["type"], event.get("index")) for event in ending] == [
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert ending[4]["delta"]["stop_reason"] == "refusal"


def test_what_the_events_say_of_a_call_and_its_final_item_are_both_judged() -> None:
    stream = RESPONSES.hold()
    call = {"type": "function_call", "call_id": "c", "name": "send", "arguments": ""}
    feed(
        stream,
        {"type": "response.output_item.added", "output_index": 0, "item": call},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"to":"evil"}'},
        {"type": "response.output_item.done", "output_index": 0, "item": call | {"arguments": '{"to":"good"}'}},
    )
    (choice,) = stream.parsed().acting
    assert {one.arguments for one in choice.message.tool_calls} == {'{"to":"evil"}', '{"to":"good"}'}
