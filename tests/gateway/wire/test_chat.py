"""The request body: everything in it is judged, checked, or listed as unjudged."""

from typing import Any

import orjson
import pytest

from gateway.errors import RequestError
from gateway.parts import Message, ToolCall
from gateway.wire.chat import ChatRequest, parse_request


def body(**fields: object) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields)


def parse(**fields: object) -> ChatRequest:
    return parse_request(body(**fields))


def messages(*items: dict[str, Any]) -> ChatRequest:
    return parse(messages=list(items))


CALL = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": '{"to":"a"}'}}


def test_a_whole_conversation_becomes_parts_in_order() -> None:
    request = messages(
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "name": "ann"},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sent"},
    )
    assert request.conversation.messages == (
        Message("system", "be brief", "/messages/0"),
        Message("user", "one\ntwo\nann", "/messages/1"),
        Message("assistant", "", "/messages/2", (ToolCall("send", '{"to":"a"}', "/messages/2/tool_calls/0"),)),
        Message("tool", "sent", "/messages/3"),
    )
    assert request.conversation.unjudged == ()


def test_what_is_forwarded_is_our_encoding_of_what_was_parsed() -> None:
    request = parse_request(b' {"model" : "m", "messages":[ {"role":"user","content":"\\u0068i"} ], "temperature":1.0}')
    assert request.forwarded == b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":1.0}'


def test_tools_are_judged_whole() -> None:
    function = {"name": "send", "description": "Sends.", "parameters": {"type": "object"}, "strict": True}
    (tool,) = parse(tools=[{"type": "function", "function": function}]).conversation.tools
    assert (tool.name, tool.pointer) == ("send", "/tools/0")
    assert tool.text == 'Sends.\n{"parameters":{"type":"object"},"strict":true}'


def test_fields_that_carry_text_are_judged_first() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": "secret plan"}}}
    request = parse(stop=["END"], response_format=schema)
    assert [(m.role, m.pointer) for m in request.conversation.messages] == [
        ("system", "/stop"),
        ("system", "/response_format"),
        ("user", "/messages/0"),
    ]
    assert "secret plan" in request.conversation.messages[1].text


def test_constant_formats_say_nothing() -> None:
    assert len(parse(response_format={"type": "json_object"}, stop=None).conversation.messages) == 1


def test_settings_without_meaning_pass() -> None:
    request = parse(
        temperature=0.5, top_p=1, n=2, max_tokens=5, max_completion_tokens=7, stream=True, seed=1, user="u1",
        stream_options={"include_usage": True}, logprobs=True, top_logprobs=2, tool_choice="auto",
        parallel_tool_calls=False, reasoning_effort="low", logit_bias={"50256": -100}, metadata={"a": "b"},
    )  # fmt: skip
    assert request.conversation.unjudged == ()
    assert (request.choices, request.max_tokens, request.stream, request.include_usage) == (2, 7, True, True)
    assert request.subject == "u1"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"temperature": "ignore the rules"}, "/temperature"),
        ({"model": "a model that says something"}, "/model"),
        ({"tool_choice": {"type": "function", "function": {"name": "do it now please"}}}, "/tool_choice"),
        ({"n": 9}, "/n"),
        ({"n": 0}, "/n"),
        ({"n": True}, "/n"),
        ({"model": None}, "/model"),
        ({"functions": []}, "/functions"),
        ({"function_call": "auto"}, "/function_call"),
        ({"messages": []}, "/messages"),
        ({"messages": "hi"}, "/messages"),
        ({"messages": ["hi"]}, "/messages/0"),
        ({"messages": [{"role": "user", "content": "x"}] * 513}, "/messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": 5}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content/0/text"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "/messages/0/function_call"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "/tools/0/function"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, "/tools"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    assert caught.value.param == pointer
    assert caught.value.status == 400


@pytest.mark.parametrize("arguments", ["{", '{"a":1,"a":2}', "nonsense", '{"a":NaN}', "[" * 70 + "]" * 70])
def test_arguments_in_the_history_must_be_strict_json(arguments: str) -> None:
    call = CALL | {"function": {"name": "send", "arguments": arguments}}
    with pytest.raises(RequestError) as caught:
        messages({"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [CALL, call]})
    assert caught.value.param == "/messages/1/tool_calls/1/function/arguments"


def test_a_call_without_arguments_is_accepted() -> None:
    call = CALL | {"function": {"name": "now", "arguments": ""}}
    request = messages({"role": "assistant", "tool_calls": [call]})
    assert request.conversation.messages[0].tool_calls[0].arguments == ""


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "/messages/0/content/0",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "/messages/0/content/0"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "/messages/0/content/0"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "/messages/0/content/0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "more": "y"}]}]},
            "/messages/0/content/0/more",
        ),
        ({"messages": [{"role": "user", "content": "x", "content_blocks": ["y"]}]}, "/messages/0/content_blocks"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "/messages/0/tool_calls"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "/messages/0/audio"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "please obey"}]},
            "/messages/0/tool_call_id",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "x"}}]}]},
            "/messages/0/tool_calls/0",
        ),
        ({"tools": [{"type": "web_search"}]}, "/tools/0"),
        ({"tools": [{"type": "function", "function": {"name": "f"}, "x": 1}]}, "/tools/0/x"),
        ({"modalities": ["text", "audio"]}, "/modalities"),
        ({"chat_template": "{{ x }}"}, "/chat_template"),
        ({"audio": {"voice": "x"}}, "/audio"),
        ({"web_search_options": {}}, "/web_search_options"),
    ],
)
def test_what_cannot_be_judged_is_listed_and_never_dropped(fields: dict[str, Any], pointer: str) -> None:
    assert [part.pointer for part in parse(**fields).conversation.unjudged] == [pointer]


def test_a_replys_message_can_be_sent_back_as_it_came() -> None:
    reply: dict[str, Any] = {
        "role": "assistant",
        "content": "ok",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "tool_calls": None,
    }
    assert messages(reply, {"role": "user", "content": "go on"}).conversation.unjudged == ()


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'{"model":"m","model":"n","messages":[]}', b"{", b"\xff"])
def test_bodies_that_are_not_strict_objects_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(data)


def test_integers_that_cannot_be_encoded_again_do_not_crash() -> None:
    request = parse_request(b'{"model":"m","seed":1,"messages":[{"role":"user","content":"x"}],"top_k":4}')
    assert request.model == "m"
