"""A Messages request: blocks become parts in order; what cannot be judged is listed."""

from typing import Any

import orjson
import pytest

from gateway.errors import RequestError
from gateway.wire.format import Request
from gateway.wire.messages import parse_request

USER = {"role": "user", "content": "hi"}


def parse(**fields: Any) -> Request:
    return parse_request(orjson.dumps({"model": "m", "max_tokens": 9, "messages": [USER]} | fields))


def test_blocks_become_messages_in_order() -> None:
    request = parse(
        system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        messages=[
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "mail her", "signature": "EqQBCgIYAhIM"},
                    {"type": "tool_use", "id": "toolu_1", "name": "send", "input": {"to": "ann"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sent"}]},
                    {"type": "text", "text": "thanks"},
                ],
            },
        ],
        tools=[{"name": "send", "description": "Sends.", "input_schema": {"type": "object"}}],
        metadata={"user_id": "u1"},
    )
    assert [(message.role, message.text) for message in request.conversation.messages] == [
        ("system", "be brief"),
        ("user", "hi"),
        ("assistant", "mail her"),
        ("tool", "sent"),
        ("user", "thanks"),
    ]
    (call,) = request.conversation.messages[2].tool_calls
    assert (call.name, call.arguments) == ("send", '{"to":"ann"}')
    assert request.conversation.unjudged == ()
    assert (request.subject, request.max_tokens) == ("u1", 9)


@pytest.mark.parametrize(
    ("block", "pointer"),
    [
        ({"type": "image", "source": {"type": "url", "url": "x"}}, "/messages/0/content/0"),
        ({"type": "document", "source": {"type": "base64", "data": "x"}}, "/messages/0/content/0/source"),
        ({"type": "redacted_thinking", "data": "x"}, "/messages/0/content/0/data"),
        ({"type": "hologram"}, "/messages/0/content/0"),
        ({"type": "text", "text": "x", "more": "y"}, "/messages/0/content/0/more"),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]},
            "/messages/0/content/0/content/0",
        ),
    ],
)
def test_what_cannot_be_judged_is_listed(block: dict[str, Any], pointer: str) -> None:
    request = parse(messages=[{"role": "user", "content": [block]}])
    assert [part.pointer for part in request.conversation.unjudged] == [pointer]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"messages": []}, "/messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": 5}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content/0/text"),
        ({"system": [{"type": "image"}]}, "/system/0"),
        ({"model": None}, "/model"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    assert caught.value.param == pointer
