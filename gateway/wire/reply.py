"""The upstream's chat completion: every choice, and every action that one proposes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import UpstreamError
from gateway.parts import Message, ToolCall, Unjudged
from gateway.wire.strict import StrictJsonError, dumps, join, loads

MAX_CHOICES: Final = 128
"""Of a reply; a request asks for at most 8."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One alternative of a reply. ``unjudged`` lists what of its actions the Safety head cannot read."""

    index: int
    message: Message
    unjudged: tuple[Unjudged, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether it proposes anything that a client would execute."""
        return bool(self.message.tool_calls or self.unjudged)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A parsed reply: its choices, and the fields that a substitute for it repeats."""

    choices: tuple[Choice, ...]
    id: str = ""
    model: str = ""
    created: int = 0

    @property
    def acting(self) -> tuple[Choice, ...]:
        """The choices that propose an action."""
        return tuple(choice for choice in self.choices if choice.acts)


def parse_reply(data: bytes) -> ChatReply:
    """Return the reply in ``data``, every choice of it, or raise UpstreamError(invalid)."""
    body = parse_object(data)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or len(choices) > MAX_CHOICES:
        raise UpstreamError("invalid", "the upstream's reply has no list of choices")
    parsed = []
    for position, item in enumerate(choices):
        message = item.get("message") if isinstance(item, dict) else None
        if not isinstance(message, dict):
            raise UpstreamError("invalid", f"choice {position} of the upstream's reply has no message")
        parsed.append(read_choice(item_index(item, position), message, join("/choices", position, "message")))
    return ChatReply(tuple(parsed), **heading(body))


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the strict JSON object in ``data`` or raise UpstreamError(invalid)."""
    try:
        body = loads(data)
    except StrictJsonError as error:
        raise UpstreamError("invalid", f"the upstream's answer is {error.message}") from None
    if not isinstance(body, dict):
        raise UpstreamError("invalid", "the upstream's answer is not a JSON object")
    return body


def heading(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return id, model and created of a reply or chunk, without trusting their types."""
    identifier, model, created = body.get("id"), body.get("model"), body.get("created")
    return {
        "id": identifier if isinstance(identifier, str) else "",
        "model": model if isinstance(model, str) else "",
        "created": created if isinstance(created, int) else 0,
    }


def item_index(item: Mapping[str, Any], position: int) -> int:
    """Return the index that a choice or call claims, else its position."""
    index = item.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else position


def read_choice(index: int, message: Mapping[str, Any], pointer: str) -> Choice:
    """Return one choice from its wire message."""
    content = message.get("content")
    texts = [content if isinstance(content, str) else dumps(content).decode()] if content else []
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        texts.append(refusal)
    calls: list[ToolCall] = []
    unjudged: list[Unjudged] = []
    raw = message.get("tool_calls")
    at = join(pointer, "tool_calls")
    if isinstance(raw, list):
        for position, item in enumerate(raw):
            _read_call(item, join(at, position), calls, unjudged)
    elif raw is not None:
        unjudged.append(Unjudged(at, "`tool_calls` is not a list"))
    if (legacy := message.get("function_call")) is not None:
        _read_function(legacy, join(pointer, "function_call"), "", calls, unjudged)
    return Choice(index, Message("assistant", "\n".join(texts), pointer, tuple(calls)), tuple(unjudged))


def _read_call(item: object, pointer: str, calls: list[ToolCall], unjudged: list[Unjudged]) -> None:
    if not isinstance(item, dict) or (item.get("type") or "function") != "function":
        unjudged.append(Unjudged(pointer, "a tool call that is not a function call"))
        return
    if item.get("split_name"):
        unjudged.append(Unjudged(pointer, "the name came in several pieces"))
    _read_function(item.get("function"), pointer, "function", calls, unjudged)


def _read_function(function: object, pointer: str, key: str, calls: list[ToolCall], unjudged: list[Unjudged]) -> None:
    at = join(pointer, key) if key else pointer
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        unjudged.append(Unjudged(at, "a tool call without a name"))
        return
    arguments = function.get("arguments") or ""
    if not isinstance(arguments, str):
        unjudged.append(Unjudged(join(at, "arguments"), "arguments that are not a string"))
        arguments = dumps(arguments).decode()
    elif arguments:
        try:
            loads(arguments)
        except StrictJsonError as error:
            reason = f"arguments that are not strict JSON: {error.message[:100]}"
            unjudged.append(Unjudged(join(at, "arguments"), reason))
    calls.append(ToolCall(function["name"], arguments, pointer))
