"""POST /v1/chat/completions: the request body, strictly parsed, and the one encoding of it that is forwarded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from gateway.errors import RequestError
from gateway.parts import Conversation, Message, Role, ToolCall, ToolDefinition, Unjudged
from gateway.wire import fields
from gateway.wire.strict import StrictJsonError, dumps, join, loads

MAX_MESSAGES: Final = 512
MAX_TOOLS: Final = 128
MAX_CHOICES: Final = 8

ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_TEXT_FIELDS: Final = {
    "system": ("name",),
    "user": ("name",),
    "assistant": ("name", "refusal", "reasoning_content", "reasoning"),
    "tool": ("name",),
}
_UNJUDGEABLE_PARTS: Final = {
    "image_url": "an image cannot be judged",
    "input_audio": "audio cannot be judged",
    "file": "a file cannot be judged",
}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A parsed request. ``forwarded`` is our own encoding of what was parsed: the only bytes that an upstream gets."""

    conversation: Conversation
    forwarded: bytes
    model: str
    stream: bool
    choices: int
    include_usage: bool
    max_tokens: int | None
    subject: str | None


def parse_request(data: bytes) -> ChatRequest:
    """Return the request in ``data`` or raise RequestError with what is wrong, where, and how to mend it."""
    try:
        body = loads(data)
        _require(isinstance(body, dict), "the body must be a JSON object", "")
        forwarded = dumps(body)
    except StrictJsonError as error:
        raise RequestError(error.message, param=error.pointer) from None
    unjudged: list[Unjudged] = []
    extra = _top_level(body, unjudged)
    messages = _messages(body.get("messages"), unjudged)
    tools = _tools(body.get("tools"), unjudged)
    choices = _choices(body)
    options = body.get("stream_options") or {}
    limit = body.get("max_completion_tokens")
    return ChatRequest(
        conversation=Conversation((*extra, *messages), tools, tuple(unjudged)),
        forwarded=forwarded,
        model=body["model"],
        stream=bool(body.get("stream")),
        choices=choices,
        include_usage=bool(options.get("include_usage")),
        max_tokens=limit if limit is not None else body.get("max_tokens"),
        subject=body.get("safety_identifier") or body.get("user") or None,
    )


def _require(holds: bool, message: str, pointer: str) -> None:
    if not holds:
        raise RequestError(message, param=pointer)


def _top_level(body: dict[str, Any], unjudged: list[Unjudged]) -> list[Message]:
    """Check every top-level field but the parsed ones; return the judged ones as leading system messages."""
    _require(body.get("model") is not None, "`model` is missing", "/model")
    judged = []
    for name, value in body.items():
        pointer = join("", name)
        if name in fields.PARSED or value is None:
            continue
        if name in fields.WITHOUT_MEANING:
            check, shape = fields.WITHOUT_MEANING[name]
            _require(check(value), f"`{name}` must be {shape}", pointer)
        elif name in fields.JUDGED_AS_TEXT:
            if (text := _plain(value)) is not None:
                judged.append(Message("system", f"{name}: {text}", pointer))
        elif name in fields.REPLACED:
            raise RequestError(f"`{name}` is no longer supported: use `{fields.REPLACED[name]}`", param=pointer)
        elif name != "modalities" or value != ["text"]:
            unjudged.append(Unjudged(pointer, fields.UNJUDGEABLE.get(name, "unknown field")))
    return judged


def _plain(value: object) -> str | None:
    """Return a value as the text that the judge reads, None for the constant shapes that say nothing."""
    if value in ({"type": "text"}, {"type": "json_object"}):
        return None
    return value if isinstance(value, str) else dumps(value).decode()


def _choices(body: dict[str, Any]) -> int:
    choices = body.get("n")
    if choices is None:
        return 1
    _require(1 <= choices <= MAX_CHOICES, f"`n` must be from 1 to {MAX_CHOICES}", "/n")
    return cast(int, choices)


def _messages(value: object, unjudged: list[Unjudged]) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise RequestError("`messages` must be a list with at least one message", param="/messages")
    _require(len(value) <= MAX_MESSAGES, f"more than {MAX_MESSAGES} messages", "/messages")
    return [_message(item, join("/messages", index), unjudged) for index, item in enumerate(value)]


def _message(value: object, pointer: str, unjudged: list[Unjudged]) -> Message:
    if not isinstance(value, dict):
        raise RequestError("a message must be an object", param=pointer)
    written = value.get("role")
    if not isinstance(written, str) or written not in ROLES:
        raise RequestError("unknown role: use one of " + ", ".join(ROLES), param=join(pointer, "role"))
    role = ROLES[written]
    texts: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    for name, item in value.items():
        at = join(pointer, name)
        if name == "role" or item is None or item == []:
            continue
        if name == "content":
            texts.append(_content(item, at, unjudged))
        elif name in _TEXT_FIELDS[role]:
            _require(isinstance(item, str), f"`{name}` must be a string", at)
            texts.append(item)
        elif name == "tool_calls" and role == "assistant":
            calls = read_calls(item, at, unjudged)
        elif name == "function_call":
            raise RequestError("`function_call` is no longer supported: use `tool_calls`", param=at)
        elif name == "tool_call_id" and role == "tool" and isinstance(item, str):
            if not fields.is_identifier(item):
                unjudged.append(Unjudged(at, "an id with free text"))
        elif name == "annotations":
            texts.append(dumps(item).decode())
        else:
            unjudged.append(Unjudged(at, "unknown field"))
    return Message(role, "\n".join(texts), pointer, calls)


def _content(value: object, pointer: str, unjudged: list[Unjudged]) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError("`content` must be a string or a list of parts", param=pointer)
    texts = []
    for index, part in enumerate(value):
        at = join(pointer, index)
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise RequestError("a content part must be an object with a `type`", param=at)
        kind = part["type"]
        if kind in ("text", "refusal"):
            if not isinstance(part.get(kind), str):
                raise RequestError(f"a part of type `{kind}` must have a string `{kind}`", param=join(at, kind))
            texts.append(part[kind])
            unjudged += [Unjudged(join(at, name), "unknown field") for name in part if name not in ("type", kind)]
        else:
            unjudged.append(Unjudged(at, _UNJUDGEABLE_PARTS.get(kind, "unknown type of content part")))
    return "\n".join(texts)


def read_calls(value: object, pointer: str, unjudged: list[Unjudged]) -> tuple[ToolCall, ...]:
    """Return the calls of a `tool_calls` list; arguments must be strict JSON or empty."""
    if not isinstance(value, list):
        raise RequestError("`tool_calls` must be a list", param=pointer)
    calls = []
    for index, item in enumerate(value):
        at = join(pointer, index)
        if not isinstance(item, dict) or (item.get("type") or "function") != "function":
            unjudged.append(Unjudged(at, "a tool call that is not a function call"))
            continue
        function = item.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestError("a tool call must have a `function` with a `name`", param=at)
        arguments = function.get("arguments", "")
        at_arguments = join(at, "function", "arguments")
        if not isinstance(arguments, str):
            raise RequestError("`arguments` must be a string of JSON", param=at_arguments)
        try:
            if arguments:
                loads(arguments)
        except StrictJsonError as error:
            raise RequestError(f"`arguments` is not strict JSON: {error.message}", param=at_arguments) from None
        if not fields.is_identifier(item.get("id") or "-"):
            unjudged.append(Unjudged(join(at, "id"), "an id with free text"))
        known = ("id", "type", "function", "index")
        unjudged += [Unjudged(join(at, name), "unknown field") for name in item if name not in known]
        inner = [name for name in function if name not in ("name", "arguments")]
        unjudged += [Unjudged(join(at, "function", name), "unknown field") for name in inner]
        calls.append(ToolCall(function["name"], arguments, at))
    return tuple(calls)


def _tools(value: object, unjudged: list[Unjudged]) -> tuple[ToolDefinition, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError("`tools` must be a list", param="/tools")
    _require(len(value) <= MAX_TOOLS, f"more than {MAX_TOOLS} tools", "/tools")
    tools = []
    for index, item in enumerate(value):
        at = join("/tools", index)
        if not isinstance(item, dict):
            raise RequestError("a tool must be an object", param=at)
        function = item.get("function")
        if item.get("type") != "function":
            unjudged.append(Unjudged(at, "a tool that is not a function"))
            continue
        if not isinstance(function, dict) or not fields.is_name(function.get("name")):
            raise RequestError("a function tool must have a `function` with a `name`", param=join(at, "function"))
        unjudged += [Unjudged(join(at, name), "unknown field") for name in item if name not in ("type", "function")]
        tools.append(ToolDefinition(function["name"], _definition(function), at))
    return tuple(tools)


def _definition(function: dict[str, Any]) -> str:
    """Everything of a tool but its name: the description first, then the rest as JSON."""
    rest = {key: value for key, value in function.items() if key not in ("name", "description") and value is not None}
    description = function.get("description")
    texts = [description if isinstance(description, str) else dumps(description).decode()] if description else []
    if rest:
        texts.append(dumps(rest).decode())
    return "\n".join(texts)
