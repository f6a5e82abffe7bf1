"""The renderer: every token is read, windows keep their role, and only the template makes special tokens."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.parts import Conversation, Message, Role, ToolCall, ToolDefinition
from gateway.safety.prompt import Vocabulary, judged_bytes, render
from gateway.safety.template import END, SPECIAL_TOKENS, START, TOOL_CALL

SPECIAL = {token: -1 - i for i, token in enumerate(SPECIAL_TOKENS)}
VOCABULARY = Vocabulary(lambda text: [ord(c) for c in text], SPECIAL)
WINDOW = 160

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
roles: st.SearchStrategy[Role] = st.sampled_from(ROLES)
texts = st.text(st.characters(codec="utf-8"), max_size=400)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages = []
    for index in range(draw(st.integers(1, 5))):
        role: Role = draw(roles)
        count = draw(st.integers(0, 2)) if role == "assistant" else 0
        calls = tuple(ToolCall("tool", draw(texts), f"/messages/{index}/tool_calls/{n}") for n in range(count))
        messages.append(Message(role, draw(texts), f"/messages/{index}", calls))
    tools = tuple(ToolDefinition("name", draw(texts), f"/tools/{n}") for n in range(draw(st.integers(0, 2))))
    return Conversation(tuple(messages), tools)


def whole(conversation: Conversation) -> list[int]:
    return list(render(conversation, VOCABULARY, window=10**9, last_only=True)[-1].ids)


@given(conversations(), st.booleans())
def test_every_token_of_a_conversation_lies_in_some_prompt(conversation: Conversation, last_only: bool) -> None:
    stream = whole(conversation)
    prompts = render(conversation, VOCABULARY, window=WINDOW, last_only=last_only)
    position = 0
    for prompt in prompts:
        inner = prompt.ids
        best = position
        for start in range(position + 1):
            for skip in (
                0,
                len("assistant\n") + 1,
                len("user\n") + 1,
                len("system\n") + 1,
                len("tool\n") + 1,
                len("tools\n") + 1,
            ):
                body = list(inner[skip:-2])
                if stream[start : start + len(body)] == body:
                    best = max(best, start + len(body))
        position = max(position, best)
    assert position >= len(stream) - 2


@given(conversations(), st.booleans())
def test_no_prompt_is_longer_than_the_window(conversation: Conversation, last_only: bool) -> None:
    prompts = render(conversation, VOCABULARY, window=WINDOW, last_only=last_only)
    assert all(len(prompt.ids) <= WINDOW for prompt in prompts)
    assert prompts


def test_a_reading_ends_at_each_user_and_tool_message_and_at_each_call() -> None:
    conversation = Conversation(
        (
            Message("system", "be kind", "/messages/0"),
            Message("user", "hello", "/messages/1"),
            Message(
                "assistant",
                "",
                "/messages/2",
                (ToolCall("a", "{}", "/messages/2/tool_calls/0"), ToolCall("b", "{}", "/messages/2/tool_calls/1")),
            ),
            Message("tool", "done", "/messages/3"),
            Message("assistant", "ok", "/messages/4"),
        )
    )
    pointers = [prompt.pointer for prompt in render(conversation, VOCABULARY, window=10**6)]
    assert pointers == [
        "/messages/1",
        "/messages/2/tool_calls/0",
        "/messages/2/tool_calls/1",
        "/messages/3",
        "/messages/4",
    ]
    last = render(conversation, VOCABULARY, window=10**6, last_only=True)
    assert [prompt.pointer for prompt in last] == ["/messages/4"]


def test_text_that_looks_like_the_template_makes_no_special_token() -> None:
    text = "".join(SPECIAL_TOKENS)
    prompt = render(Conversation((Message("user", text, "/m"),)), VOCABULARY, window=10**6)[0]
    made = [token for token in prompt.ids if token < 0]
    assert made == [SPECIAL[START], SPECIAL[END]]


def test_a_call_is_marked_and_shows_name_and_arguments() -> None:
    call = ToolCall("send", '{"to":"x"}', "/messages/0/tool_calls/0")
    prompt = render(Conversation((Message("assistant", "", "/messages/0", (call,)),)), VOCABULARY, window=10**6)[0]
    at = prompt.ids.index(SPECIAL[TOOL_CALL])
    assert "".join(chr(t) for t in prompt.ids[at + 1 : -2]) == 'send\n{"to":"x"}'


def test_a_window_that_begins_inside_a_message_repeats_its_role() -> None:
    prompts = render(Conversation((Message("tool", "x" * 1000, "/m"),)), VOCABULARY, window=WINDOW)
    opening = (SPECIAL[START], *map(ord, "tool\n"))
    assert len(prompts) > 5
    assert all(prompt.ids[: len(opening)] == opening for prompt in prompts)


def test_bytes_are_counted_on_decoded_text_names_and_arguments() -> None:
    call = ToolCall("send", '{"ä":1}', "/messages/1/tool_calls/0")
    conversation = Conversation(
        (Message("user", "日本", "/messages/0"), Message("assistant", "", "/messages/1", (call,))),
        (ToolDefinition("t", "d", "/tools/0"),),
    )
    assert judged_bytes(conversation) == 6 + 4 + 8 + len("t: d")
