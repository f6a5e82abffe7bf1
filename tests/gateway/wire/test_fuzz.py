"""Whatever comes in, the answer is a value or one of our errors; and no text of a body escapes the judge."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError, UpstreamError
from gateway.wire.chat import parse_request
from gateway.wire.reply import parse_reply
from gateway.wire.sse import write_event
from gateway.wire.stream import HeldStream

WORDS = """role content name tool_calls tool_call_id function arguments id type text refusal image_url model messages
tools n stop stream metadata function_call choices delta message index finish_reason custom annotations audio"""
KEYS = st.sampled_from(WORDS.split())
ATOMS = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        -1,
        2.5,
        "",
        "user",
        "assistant",
        "tool",
        "system",
        "function",
        "text",
        "x y",
        "{}",
        '{"a":1}',
        "{",
    ]
)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"])}).flatmap(
        lambda role: st.dictionaries(KEYS, VALUES, max_size=4).map(lambda rest: rest | role)
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6), MESSAGES | VALUES)
def test_a_request_is_read_or_refused(fields: dict[str, Any], messages: object) -> None:
    body = {**fields, "model": "m", "messages": messages}
    try:
        request = parse_request(orjson.dumps(body))
    except RequestError:
        return
    assert orjson.loads(request.forwarded) == body
    assert request.conversation.messages


@settings(max_examples=200, deadline=None)
@given(VALUES | st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"message": VALUES}), max_size=3)}))
def test_a_reply_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        reply = parse_reply(orjson.dumps(body))
    except UpstreamError:
        return
    for item, choice in zip(body["choices"], reply.choices, strict=True):
        acts = item["message"].get("tool_calls") or item["message"].get("function_call") is not None
        assert choice.acts or not acts


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"delta": VALUES}), max_size=2)}), max_size=4
    )
)
def test_no_piece_of_an_action_passes_a_stream(chunks: list[Any]) -> None:
    stream = HeldStream()
    passed = b""
    try:
        for chunk in chunks:
            passed += stream.feed(write_event(orjson.dumps(chunk)))
    except UpstreamError:
        pass
    for line in passed.split(b"\n\n"):
        if line:
            for choice in orjson.loads(line.removeprefix(b"data: "))["choices"]:
                delta = choice["delta"] or {}
                assert not delta.get("tool_calls")
                assert delta.get("function_call") is None


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), st.integers(0, 5))
def test_every_text_of_a_message_reaches_the_judge(text: str, place: int) -> None:
    messages: list[Any] = [
        {"role": "user", "content": text},
        {"role": "system", "content": [{"type": "text", "text": text}]},
        {"role": "assistant", "content": None, "refusal": text},
        {"role": "assistant", "reasoning_content": text},
        {"role": "tool", "content": text, "tool_call_id": "c"},
        {"role": "user", "content": "x", "name": text},
    ]
    request = parse_request(orjson.dumps({"model": "m", "messages": [messages[place]]}))
    assert text in request.conversation.messages[0].text
    assert request.conversation.unjudged == ()
