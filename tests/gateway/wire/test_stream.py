"""A streamed reply: text passes, and from the first piece of an action on nothing does."""

from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamError
from gateway.parts import ToolCall
from gateway.wire.sse import DONE, write_event
from gateway.wire.stream import HeldStream


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return write_event(orjson.dumps({"id": "s", "model": "m", "created": 1, "choices": [choice]}))


def piece(index: int = 0, **function: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": function}]}


def whole(data: bytes) -> HeldStream:
    stream = HeldStream()
    stream.feed(data)
    stream.finish()
    return stream


def test_text_passes_unchanged_and_at_once() -> None:
    stream = HeldStream()
    sent = [chunk({"role": "assistant", "content": ""}), chunk({"content": "he"}), chunk({"content": "y"}, "stop")]
    assert [stream.feed(item) for item in sent] == sent
    assert stream.feed(DONE) == b""
    assert stream.finish() == b""
    assert stream.done
    assert stream.reply.reply().choices[0].message.text == "hey"
    assert stream.held == []


def test_everything_from_the_first_call_on_is_held_in_order() -> None:
    stream = HeldStream()
    first = chunk({"content": "let me see"})
    rest = [
        chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "send"}}]}),
        chunk(piece(arguments='{"to":')),
        chunk({"content": "other choice"}, index=1),
        chunk(piece(arguments='"a"}')),
        chunk({}, "tool_calls"),
        chunk({}, "stop", index=1),
    ]
    assert stream.feed(first + b"".join(rest)) == first
    stream.finish()
    assert stream.held == rest
    (acting,) = stream.reply.reply().acting
    assert acting.message.tool_calls == (ToolCall("send", '{"to":"a"}', "/choices/0/message/tool_calls/0"),)
    assert acting.message.text == "let me see"
    assert acting.unjudged == ()


@pytest.mark.parametrize(
    "delta",
    [
        {"function_call": {"name": "send", "arguments": "{}"}},
        {"tool_calls": [{"function": {"name": "send", "arguments": "{}"}}]},
        {"tool_calls": ["send"]},
        {"tool_calls": "send"},
        {"tool_calls": [{"index": 0, "type": "custom", "custom": {"input": "x"}}]},
    ],
)
def test_an_action_is_held_in_any_shape(delta: dict[str, Any]) -> None:
    stream = HeldStream()
    assert stream.feed(chunk(delta)) == b""
    assert stream.reply.acts
    assert stream.reply.reply().acting


def test_a_whole_message_in_a_chunk_is_read_too() -> None:
    stream = HeldStream()
    message = {"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    data = orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert stream.feed(write_event(data)) == b""


def test_a_name_in_two_pieces_is_unjudged() -> None:
    stream = HeldStream()
    stream.feed(chunk(piece(name="send", arguments="{}")) + chunk(piece(name="_all")))
    (choice,) = stream.reply.reply().acting
    assert choice.unjudged[0].pointer == "/choices/0/message/tool_calls/0"


def test_two_calls_without_an_index_do_not_run_together() -> None:
    stream = HeldStream()
    for name in ("a", "b"):
        stream.feed(chunk({"tool_calls": [{"function": {"name": name, "arguments": "{}"}}]}))
    (choice,) = stream.reply.reply().acting
    assert [call.name for call in choice.message.tool_calls] == ["a", "b"]


def test_a_stream_without_done_ends_when_every_choice_has_its_reason() -> None:
    stream = HeldStream()
    stream.feed(chunk({"content": "x"}, "stop"))
    assert stream.finish() == b""
    assert not stream.done


@pytest.mark.parametrize(
    "data",
    [
        chunk({"content": "x"}),
        b"",
        b"data: nonsense\n\n",
        b'data: {"choices":5}\n\n',
        b'data: {"choices":[5]}\n\n',
        b'data: {"choices":[{"delta":5}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a","content":"b"}}]}\n\n',
        b'data: {"error":{"message":"overloaded"}}\n\n',
        DONE + chunk({"tool_calls": []}),
    ],
)
def test_a_broken_stream_is_an_upstream_error(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        whole(data)
