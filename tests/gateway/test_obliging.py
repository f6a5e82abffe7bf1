"""What a decision obliges to is done to the bytes that are forwarded, and undone in what comes back."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.decision import (
    CapTokens,
    Obligation,
    Redact,
    RequireUpstream,
    RestrictTools,
    SystemNotice,
    Tag,
)
from gateway.errors import UnmetObligation
from gateway.obliging import forbidden_calls, oblige, read_obligations, restored_stream, write_obligations
from gateway.wire.format import WireFormat
from gateway.wire.routes import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

MAIL = "sato@clinic.example"
REDACT = Redact(("email",), restore=True)


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def chat(**more: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": f"Write to {MAIL} about Friday."}], **more}


def done(body: dict[str, Any], *obligations: Obligation, wire: WireFormat = CHAT) -> dict[str, Any]:
    request = wire.parse_request(json.dumps(body).encode())
    sent: dict[str, Any] = json.loads(oblige(request, obligations, wire).request.forwarded)
    return sent


def test_nothing_is_changed_where_nothing_is_asked() -> None:
    request = CHAT.parse_request(json.dumps(chat()).encode())
    obliged = oblige(request, (), CHAT)
    assert obliged.request is request
    assert obliged.restored(b"{ }") == b"{ }"


def test_redacted_data_leaves_neither_in_the_bytes_nor_in_the_conversation_and_comes_back() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": json.dumps({"to": MAIL})}}
    body = chat(tools=[tool("send")])
    body["messages"] += [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]
    request = CHAT.parse_request(json.dumps(body).encode())
    obliged = oblige(request, (REDACT,), CHAT)
    assert MAIL.encode() not in obliged.request.forwarded
    assert all(MAIL not in message.text for message in obliged.request.conversation.messages)
    [placeholder] = obliged.originals
    reply = {
        "choices": [
            {
                "message": {
                    "content": f"Done: {placeholder}",
                    "tool_calls": [{"function": {"name": "send", "arguments": json.dumps({"to": placeholder})}}],
                }
            }
        ]
    }
    told = json.loads(obliged.restored(json.dumps(reply).encode()))["choices"][0]["message"]
    assert told["content"] == f"Done: {MAIL}"
    assert json.loads(told["tool_calls"][0]["function"]["arguments"]) == {"to": MAIL}


def test_without_restore_nothing_comes_back() -> None:
    request = CHAT.parse_request(json.dumps(chat()).encode())
    assert not oblige(request, (Redact(("email",)),), CHAT).originals


@pytest.mark.parametrize("cut", range(1, 14))
async def test_a_stream_is_restored_however_it_is_cut(cut: int) -> None:
    obliged = oblige(CHAT.parse_request(json.dumps(chat(stream=True)).encode()), (REDACT,), CHAT)
    [placeholder] = obliged.originals
    said = f"To {placeholder}: see [1] and {placeholder}"
    pieces = [said[at : at + cut] for at in range(0, len(said), cut)]
    arguments = json.dumps({"to": placeholder})
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
    deltas += [
        {"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + cut]}}]}
        for at in range(0, len(arguments), cut)
    ]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    wire = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"

    async def upstream() -> AsyncIterator[bytes]:
        for at in range(0, len(wire), 37):
            yield wire[at : at + 37]

    told = b"".join([piece async for piece in restored_stream(upstream(), obliged.originals)])
    assert told.endswith(b"data: [DONE]\n\n")
    events = [json.loads(event[6:]) for event in told.decode().split("\n\n")[:-2]]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    called = "".join(
        call["function"]["arguments"] for event in events for call in event["choices"][0]["delta"].get("tool_calls", ())
    )
    assert text == said.replace(placeholder, MAIL)
    assert json.loads(called) == {"to": MAIL}


def test_a_stream_that_cannot_be_restored_is_not_forwarded() -> None:
    body = {"model": "m", "input": f"Write to {MAIL}.", "stream": True}
    with pytest.raises(UnmetObligation) as raised:
        done(body, REDACT, wire=RESPONSES)
    assert raised.value.param == "/stream"


def test_tools_that_may_not_be_offered_go_and_their_choice_with_them() -> None:
    limit = RestrictTools((("read_*",),))
    chosen = {"type": "function", "function": {"name": "send"}}
    sent = done(chat(tools=[tool("read_file"), tool("send")], tool_choice=chosen), limit)
    assert [each["function"]["name"] for each in sent["tools"]] == ["read_file"]
    assert "tool_choice" not in sent
    assert "tools" not in done(chat(tools=[tool("send")], tool_choice="auto"), limit)
    assert forbidden_calls((limit,), ["read_file", "send"]) == ("send",)


@pytest.mark.parametrize(
    ("wire", "given", "expected"),
    [
        (CHAT, {}, {"max_completion_tokens": 50}),
        (CHAT, {"max_tokens": 10}, {"max_tokens": 10}),
        (CHAT, {"max_tokens": 100}, {"max_tokens": 50}),
        (RESPONSES, {"max_output_tokens": 90}, {"max_output_tokens": 50}),
        (MESSAGES, {"max_tokens": 90}, {"max_tokens": 50}),
    ],
)
def test_tokens_are_capped_where_the_format_says_them(
    wire: WireFormat, given: dict[str, int], expected: dict[str, int]
) -> None:
    body = {"model": "m", "input": "Hello"} if wire is RESPONSES else chat()
    sent = done(body | given, CapTokens(50), wire=wire)
    assert {name: value for name, value in sent.items() if name.startswith("max")} == expected


def test_a_notice_stands_before_everything() -> None:
    notice = SystemNotice("Answer in Japanese.")
    assert done(chat(), notice)["messages"][0] == {"role": "system", "content": "Answer in Japanese."}
    assert done({"model": "m", "input": "Hi", "instructions": "Be brief."}, notice, wire=RESPONSES)["instructions"] == (
        "Answer in Japanese.\n\nBe brief."
    )
    assert done(chat(max_tokens=5, system="Be brief."), notice, wire=MESSAGES)["system"] == (
        "Answer in Japanese.\n\nBe brief."
    )


@pytest.mark.parametrize(("wire", "key"), [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input")])
def test_where_there_is_no_place_for_a_notice_nothing_is_forwarded(wire: WireFormat, key: str) -> None:
    with pytest.raises(UnmetObligation):
        done({"model": "m", key: "Hello"}, SystemNotice("Answer in Japanese."), wire=wire)


def test_what_a_case_keeps_is_read_back_equal() -> None:
    every: tuple[Obligation, ...] = (
        Redact(("email", "ticket"), True, (("ticket", "T-[0-9]{6}"),)),
        RestrictTools((("read_*",), ("read_file", "list"))),
        CapTokens(9),
        SystemNotice("Answer in Japanese."),
        RequireUpstream(),
        Tag("pilot"),
    )
    assert read_obligations(write_obligations(every)) == every
