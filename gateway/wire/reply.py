"""The upstream's chat completion: every choice, and every action that one proposes."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import UpstreamError
from gateway.parts import Mark, Message, ToolCall
from gateway.wire.format import MAX_REPLY_CHOICES, Choice, Reply
from gateway.wire.reading import Reading, Strands
from gateway.wire.strict import StrictJsonError, dumps, join, loads

ChatReply = Reply
MAX_CHOICES: Final = MAX_REPLY_CHOICES
_CHOICE_FIELDS: Final = ("index", "message", "delta")


def parse_reply(data: bytes) -> Reply:
    """Return the reply in ``data``, every choice of it, or raise UpstreamError(invalid)."""
    body = parse_object(data)
    parsed = []
    for position, item in enumerate(read_choices(body)):
        message = item.get("message")
        if not isinstance(message, dict):
            raise UpstreamError("invalid", f"choice {position} of the upstream's reply has no message")
        index, at = item_index(item, position), join("/choices", position)
        beside = {name: value for name, value in item.items() if name not in _CHOICE_FIELDS}
        rest = Strands()
        rest.weave(beside, at)
        if not isinstance(item.get("index"), int):
            rest.weave(item.get("index"), join(at, "index"))
        parsed.append(read_choice(index, message, join(at, "message"), rest))
    return Reply(tuple(parsed), **heading(body), asides=read_asides(body, "choices"))


def read_choices(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the choices of a reply, at least one, or raise UpstreamError(invalid)."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or len(choices) > MAX_CHOICES:
        raise UpstreamError("invalid", "the upstream's reply has no list of choices")
    for position, item in enumerate(choices):
        if not isinstance(item, dict):
            raise UpstreamError("invalid", f"choice {position} of the upstream's reply has no message")
    return choices


def read_asides(body: Mapping[str, Any], *besides: str) -> tuple[Mark, ...]:
    """Return every string and key of a reply outside the fields ``besides``."""
    strands = Strands()
    for name, value in body.items():
        if name not in besides:
            strands.once({name: value}, "")
    return tuple(strands.found())


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


def read_choice(index: int, message: Mapping[str, Any], pointer: str, rest: Strands | None = None) -> Choice:
    """Return one choice from its wire message; ``rest`` holds what else belongs to it."""
    reading = Reading(trusted=True)
    rest = rest or Strands()
    content = message.get("content")
    texts = [content if isinstance(content, str) else dumps(content).decode()] if content else []
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        texts.append(refusal)
    if message.get("audio") is not None:
        reading.refuse(join(pointer, "audio"), "audio cannot be judged")
    read = ("content", "tool_calls", "function_call", "audio", *(["refusal"] if isinstance(refusal, str) else []))
    rest.weave({name: value for name, value in message.items() if name not in read}, pointer)
    calls: list[ToolCall] = []
    raw = message.get("tool_calls")
    at = join(pointer, "tool_calls")
    if isinstance(raw, list):
        for position, item in enumerate(raw):
            _read_call(item, join(at, position), calls, reading, rest)
    elif raw is not None:
        reading.refuse(at, "`tool_calls` is not a list")
    if (legacy := message.get("function_call")) is not None:
        _read_function(legacy, join(pointer, "function_call"), calls, reading, rest)
    texts += rest.texts(reading, "\n".join(texts))
    said = Message("assistant", "\n".join(texts), pointer, tuple(calls))
    return Choice(index, said, tuple(reading.unjudged), tuple(reading.marks))


def _read_call(item: object, pointer: str, calls: list[ToolCall], reading: Reading, rest: Strands) -> None:
    if not isinstance(item, dict) or (item.get("type") or "function") != "function":
        reading.refuse(pointer, "a tool call that is not a function call")
        return
    if item.get("split_name"):
        reading.refuse(pointer, "the name came in several pieces")
    rest.weave({name: value for name, value in item.items() if name not in ("function", "type")}, pointer)
    _read_function(item.get("function"), join(pointer, "function"), calls, reading, rest, whole=pointer)


def _read_function(
    function: object, pointer: str, calls: list[ToolCall], reading: Reading, rest: Strands, whole: str | None = None
) -> None:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        reading.refuse(pointer, "a tool call without a name")
        return
    rest.weave({name: value for name, value in function.items() if name not in ("name", "arguments")}, pointer)
    arguments = read_arguments(function.get("arguments"), join(pointer, "arguments"), reading)
    calls.append(ToolCall(function["name"], arguments, whole or pointer))


def read_arguments(value: object, pointer: str, reading: Reading) -> str:
    """Return the arguments of a proposed call as text; what is not strict JSON is also unjudged."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        reading.refuse(pointer, "arguments that are not a string")
        return dumps(value).decode()
    try:
        loads(value)
    except StrictJsonError as error:
        reading.refuse(pointer, f"arguments that are not strict JSON: {error.message[:100]}")
    return value
