"""POST /v1/chat/completions: the request body, strictly parsed, and the one encoding of it that is forwarded."""

from collections.abc import Mapping
from typing import Any, Final, cast

from gateway.errors import RequestError
from gateway.parts import Conversation, Message, Role, ToolCall, ToolDefinition
from gateway.wire import fields
from gateway.wire.format import Request
from gateway.wire.reading import Reading, is_mark
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
_BREAKPOINT: Final = "prompt_cache_breakpoint"
_UNJUDGEABLE_PARTS: Final = {
    "image_url": "an image cannot be judged",
    "input_audio": "audio cannot be judged",
    "file": "a file cannot be judged",
}


ChatRequest = Request


def parse_request(data: bytes) -> Request:
    """Return the request in ``data`` or raise RequestError with what is wrong, where, and how to mend it."""
    body, forwarded = read_body(data)
    reading = Reading()
    extra = fields.CHAT.read(body, reading)
    if (wanted := body.get("modalities")) not in (None, ["text"]):
        reading.refuse("/modalities", "only text can be judged" if wanted else "unknown value")
    messages = _messages(body.get("messages"), reading)
    tools = _tools(body.get("tools"), reading)
    options = body.get("stream_options") or {}
    limit = body.get("max_completion_tokens")
    return Request(
        conversation=Conversation((*extra, *messages), tools, tuple(reading.unjudged), tuple(reading.marks)),
        forwarded=forwarded,
        model=body["model"],
        stream=bool(body.get("stream")),
        choices=read_choices(body),
        include_usage=bool(options.get("include_usage")),
        max_tokens=limit if limit is not None else body.get("max_tokens"),
        subject=body.get("safety_identifier") or body.get("user") or None,
    )


def read_body(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the strict JSON object in ``data`` and our encoding of it, or raise RequestError."""
    try:
        body = loads(data)
        _require(isinstance(body, dict), "the body must be a JSON object", "")
        return body, dumps(body)
    except StrictJsonError as error:
        raise RequestError(error.message, param=error.pointer) from None


def _require(holds: bool, message: str, pointer: str) -> None:
    if not holds:
        raise RequestError(message, param=pointer)


def read_choices(body: Mapping[str, Any]) -> int:
    """Return how many alternatives a request asks for."""
    choices = body.get("n")
    if choices is None:
        return 1
    _require(1 <= choices <= MAX_CHOICES, f"`n` must be from 1 to {MAX_CHOICES}", "/n")
    return cast(int, choices)


def _messages(value: object, reading: Reading) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise RequestError("`messages` must be a list with at least one message", param="/messages")
    _require(len(value) <= MAX_MESSAGES, f"more than {MAX_MESSAGES} messages", "/messages")
    return [_message(item, join("/messages", index), reading) for index, item in enumerate(value)]


def _message(value: object, pointer: str, reading: Reading) -> Message:
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
            texts.append(_content(item, at, reading))
        elif name in _TEXT_FIELDS[role]:
            _require(isinstance(item, str), f"`{name}` must be a string", at)
            texts.append(item)
        elif name == "tool_calls" and role == "assistant":
            calls = read_calls(item, at, reading)
        elif name == "function_call":
            raise RequestError("`function_call` is no longer supported: use `tool_calls`", param=at)
        elif name == "tool_call_id" and role == "tool" and isinstance(item, str):
            read_identifier(item, at, reading)
        elif name == "annotations":
            texts.append(dumps(item).decode())
        else:
            reading.refuse(at, "unknown field")
    return Message(role, "\n".join(texts), pointer, calls)


def _content(value: object, pointer: str, reading: Reading) -> str:
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
            if breakpoint_text := reading.labelled(_BREAKPOINT, part.get(_BREAKPOINT), join(at, _BREAKPOINT)):
                texts.append(breakpoint_text)
            reading.others(part, ("type", kind, _BREAKPOINT), at)
        else:
            reading.refuse(at, _UNJUDGEABLE_PARTS.get(kind, "unknown type of content part"))
    return "\n".join(texts)


def read_identifier(value: object, pointer: str, reading: Reading) -> None:
    """Take in an id that is echoed, never read: one with room for a sentence is unjudged."""
    if isinstance(value, str) and is_mark(value):
        reading.mark(value, pointer)
    else:
        reading.refuse(pointer, "an id with free text")


def read_calls(value: object, pointer: str, reading: Reading) -> tuple[ToolCall, ...]:
    """Return the calls of a `tool_calls` list; arguments must be strict JSON or empty."""
    if not isinstance(value, list):
        raise RequestError("`tool_calls` must be a list", param=pointer)
    calls = []
    for index, item in enumerate(value):
        at = join(pointer, index)
        if not isinstance(item, dict) or (item.get("type") or "function") != "function":
            reading.refuse(at, "a tool call that is not a function call")
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
        if (identifier := item.get("id")) is not None:
            read_identifier(identifier, join(at, "id"), reading)
        known = (
            ("id", "type", "function", "index") if isinstance(item.get("index"), int) else ("id", "type", "function")
        )
        reading.others(item, known, at)
        reading.others(function, ("name", "arguments"), join(at, "function"))
        calls.append(ToolCall(function["name"], arguments, at))
    return tuple(calls)


def _tools(value: object, reading: Reading) -> tuple[ToolDefinition, ...]:
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
            reading.refuse(at, "a tool that is not a function")
            continue
        if not isinstance(function, dict) or not fields.is_name(function.get("name")):
            raise RequestError("a function tool must have a `function` with a `name`", param=join(at, "function"))
        reading.others(item, ("type", "function"), at)
        tools.append(ToolDefinition(function["name"], read_definition(function), at))
    return tuple(tools)


def read_definition(function: dict[str, Any]) -> str:
    """Everything of a tool but its name: the description first, then the rest as JSON."""
    rest = {key: value for key, value in function.items() if key not in ("name", "description") and value is not None}
    description = function.get("description")
    texts = [description if isinstance(description, str) else dumps(description).decode()] if description else []
    if rest:
        texts.append(dumps(rest).decode())
    return "\n".join(texts)
