"""The upstream's reply: every choice, every action, whatever shape it hides in."""

from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamError
from gateway.wire.reply import parse_reply


def reply(*messages: dict[str, Any]) -> bytes:
    choices = [{"index": index, "message": message, "finish_reason": "stop"} for index, message in enumerate(messages)]
    return orjson.dumps({"id": "r", "model": "m", "created": 5, "choices": choices})


def call(**fields: object) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "send", "arguments": "{}"}} | fields


def test_every_choice_is_read() -> None:
    parsed = parse_reply(reply({"content": "one"}, {"content": None, "tool_calls": [call(), call()]}))
    assert [choice.message.text for choice in parsed.choices] == ["one", ""]
    assert [choice.index for choice in parsed.acting] == [1]
    assert parsed.acting[0].message.tool_calls[1].pointer == "/choices/1/message/tool_calls/1"
    assert (parsed.id, parsed.model, parsed.created) == ("r", "m", 5)


@pytest.mark.parametrize(
    "message",
    [
        {"function_call": {"name": "send", "arguments": "{}"}},
        {"tool_calls": [call(type=None)]},
        {"tool_calls": [call(type="custom", custom={"name": "x", "input": "y"})]},
        {"tool_calls": [call(function=None)]},
        {"tool_calls": [call(function={"arguments": "{}"})]},
        {"tool_calls": ["send"]},
        {"tool_calls": {"0": call()}},
        {"tool_calls": [call(function={"name": "send", "arguments": {"to": "x"}})]},
    ],
)
def test_an_action_counts_in_any_shape(message: dict[str, Any]) -> None:
    assert len(parse_reply(reply(message)).acting) == 1


@pytest.mark.parametrize("arguments", ["{", '{"a":1,"a":2}', "send it"])
def test_arguments_that_are_not_strict_json_are_unjudged_and_still_read(arguments: str) -> None:
    (choice,) = parse_reply(reply({"tool_calls": [call(function={"name": "f", "arguments": arguments})]})).choices
    assert [part.pointer for part in choice.unjudged] == ["/choices/0/message/tool_calls/0/function/arguments"]
    assert choice.message.tool_calls[0].arguments == arguments


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[1]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":{"content":"a","content":"b"}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
    ],
)
def test_garbage_is_an_upstream_error(data: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        parse_reply(data)
    assert caught.value.reason == "invalid"
