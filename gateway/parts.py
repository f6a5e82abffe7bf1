"""Parts: everything in a request or reply that can carry meaning, in one shape for every wire format."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that the caller offers. ``text`` is its description and its schema as the model reads them."""

    name: str
    text: str
    pointer: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant proposes. ``arguments`` are the exact characters of the wire."""

    name: str
    arguments: str
    pointer: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``pointer`` is the JSON pointer (RFC 6901) of the message in the wire body."""

    role: Role
    text: str
    pointer: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A part that the Safety head cannot read, and why."""

    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A name, an opaque id or a word of a closed set: a string without room for a sentence, which is not judged."""

    pointer: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the Safety head reads: tool definitions, then messages in order. Nothing is left out silently.

    Every string and key of the wire is in ``messages`` or ``tools``, or below a pointer of ``unjudged``, or is one of
    ``marks``.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    marks: tuple[Mark, ...] = ()
