r"""The one renderer: a conversation becomes the token ids that the Safety head reads. Training calls it too.

A message is ``<|im_start|>role\n text <|im_end|>\n``, a proposed call in it ``<|tool_call|>name\narguments``; the tool
definitions come first, as a message of the role ``tools``. What others wrote is encoded as plain text, so that only
the template makes special tokens. Where a reading ends, the eight invocation tokens follow.

Every token is covered: a reading sees at most ``window`` tokens of the conversation, and where two readings lie further
apart, readings in between (and an overlap of ``OVERLAP`` tokens) close the gap.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.parts import Conversation, Message, ToolDefinition
from gateway.safety.template import END, INVOCATION, LABEL_WORDS, START, TOOL_CALL
from gateway.verdict import Label

OVERLAP: Final = 64

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How text becomes ids: ``encode`` never makes special tokens, ``special`` maps each template token to its id."""

    encode: Encode
    special: Mapping[str, int]

    @property
    def invocation(self) -> tuple[int, ...]:
        """Ids of the invocation tokens, in order."""
        return tuple(self.special[token] for token in INVOCATION)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one reading sees, without the invocation tokens; it ends at the part ``pointer``."""

    ids: tuple[int, ...]
    pointer: str


@dataclass(frozen=True, slots=True)
class _Block:
    """One message of the stream: its opening ids, and the half-open range of its content ids."""

    opening: tuple[int, ...]
    start: int
    end: int


@dataclass(slots=True)
class _Stream:
    ids: list[int]
    blocks: list[_Block]
    ends: list[tuple[int, str, bool]]
    """(position, pointer, wanted in the scope ``last``)."""


def render(conversation: Conversation, vocabulary: Vocabulary, *, window: int, last_only: bool = False) -> list[Prompt]:
    """Return the prompts whose readings together judge every byte of ``conversation``.

    One reading ends at each user and tool message, at each proposed call, and at the last message whatever its role.
    With ``last_only``, only at the last message (at each of its calls, if it proposes any); longer conversations still
    get the readings in between that cover all of it.
    """
    stream = _stream(conversation, vocabulary)
    closing = _closing(vocabulary)
    budget = window - len(closing)
    wanted = [(end, pointer) for end, pointer, last in stream.ends if last or not last_only]
    prompts: list[Prompt] = []
    covered = 0
    for end, pointer in wanted:
        while end - covered > budget - _room(stream, covered):
            start = _window_start(stream, covered)
            step = start + budget - _room(stream, covered)
            prompts.append(_prompt(stream, start, step, pointer, closing))
            covered = step
        start = 0 if end <= budget else max(0, end - budget + _longest_opening(stream))
        prompts.append(_prompt(stream, start, end, pointer, closing))
        covered = max(covered, end)
    return prompts


def rationale_opening(label: Label, domain: str | None, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the ids that follow the invocation when a rationale is asked for: the label's word, then the domain."""
    return (vocabulary.special[LABEL_WORDS[label.value]], *vocabulary.encode(f"{domain or 'none'}: "))


def task_prompt(conversation: Conversation, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the ids after which the Task head writes its reply."""
    stream = _stream(conversation, vocabulary)
    return (*stream.ids, *_opening("assistant", vocabulary))


def _stream(conversation: Conversation, vocabulary: Vocabulary) -> _Stream:
    stream = _Stream([], [], [])
    closing = _closing(vocabulary)
    if conversation.tools:
        text = "\n".join(_tool_text(tool) for tool in conversation.tools)
        _add_block(stream, _opening("tools", vocabulary), vocabulary.encode(text), closing)
    for index, message in enumerate(conversation.messages):
        last = index == len(conversation.messages) - 1
        opening = _opening(message.role, vocabulary)
        content = list(vocabulary.encode(message.text))
        base = len(stream.ids) + len(opening)
        calls = []
        for call in message.tool_calls:
            content += [vocabulary.special[TOOL_CALL], *vocabulary.encode(f"{call.name}\n{call.arguments}")]
            calls.append((base + len(content), call.pointer))
        _add_block(stream, opening, content, closing)
        if calls:
            stream.ends += [(end, pointer, last) for end, pointer in calls]
        elif last or message.role in ("user", "tool"):
            stream.ends.append((base + len(content), message.pointer, last))
    return stream


def _add_block(stream: _Stream, opening: Sequence[int], content: Sequence[int], closing: Sequence[int]) -> None:
    stream.ids += opening
    start = len(stream.ids)
    stream.ids += content
    stream.blocks.append(_Block(tuple(opening), start, len(stream.ids)))
    stream.ids += closing


def _prompt(stream: _Stream, start: int, end: int, pointer: str, closing: Sequence[int]) -> Prompt:
    opening = _reopened(stream, start)
    return Prompt((*opening, *stream.ids[start:end], *closing), pointer)


def _reopened(stream: _Stream, start: int) -> tuple[int, ...]:
    """Return the opening of the message that ``start`` cuts into, so that a window never begins without its role."""
    for block in stream.blocks:
        if block.start <= start < block.end and start > 0:
            return block.opening
    return ()


def _longest_opening(stream: _Stream) -> int:
    return max(len(block.opening) for block in stream.blocks)


def _window_start(stream: _Stream, covered: int) -> int:
    return max(0, covered - OVERLAP)


def _room(stream: _Stream, covered: int) -> int:
    return 0 if covered == 0 else _longest_opening(stream)


def _opening(role: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    return (vocabulary.special[START], *vocabulary.encode(f"{role}\n"))


def _closing(vocabulary: Vocabulary) -> tuple[int, ...]:
    return (vocabulary.special[END], *vocabulary.encode("\n"))


def _tool_text(tool: ToolDefinition) -> str:
    return f"{tool.name}: {tool.text}"


def judged_bytes(conversation: Conversation) -> int:
    """Count the UTF-8 bytes of everything that the readings of ``conversation`` cover."""
    return sum(len(_tool_text(tool).encode()) for tool in conversation.tools) + sum(
        _message_bytes(message) for message in conversation.messages
    )


def _message_bytes(message: Message) -> int:
    calls = sum(len(call.name.encode()) + len(call.arguments.encode()) for call in message.tool_calls)
    return len(message.text.encode()) + calls
