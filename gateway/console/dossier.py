"""The dossier: what a reviewer sees of a case, read from its sealed payloads byte for byte."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.console.legible import count_hidden
from gateway.escalation.case import Case
from gateway.escalation.cases import Cases

RECENT: Final = 4
"""Messages that are shown unfolded at the end of a conversation."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool: its name, and its arguments as the tool would read them, by name where they are an object."""

    name: str
    arguments: str
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. ``fields`` has whatever else it says, as JSON. ``flagged``: it is where the worst reading ended."""

    role: str
    texts: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice of a reply that is held."""

    choice: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class Dossier:
    """``request`` and ``reply`` are the exact bytes as text; ``erased``: they are gone. ``asked`` is what was told."""

    request: str = ""
    request_bytes: int = 0
    reply: str = ""
    reply_bytes: int = 0
    readable: bool = True
    erased: bool = False
    turns: tuple[Turn, ...] = ()
    replies: tuple[Reply, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = 0

    @property
    def earlier(self) -> tuple[Turn, ...]:
        """The messages that are folded."""
        return self.turns[:-RECENT]

    @property
    def recent(self) -> tuple[Turn, ...]:
        """The messages that are not."""
        return self.turns[-RECENT:]


async def open_dossier(cases: Cases, case: Case) -> Dossier:
    """Return the dossier of a case; empty and ``erased`` when its payloads are."""
    request = await cases.payload(case, "request")
    if request is None:
        return Dossier(erased=True)
    reply = await cases.payload(case, "reply") if case.stage == "response" else None
    return read_dossier(request, reply, await cases.payload(case, "asked"))


def read_dossier(request: bytes, reply: bytes | None, asked: bytes | None) -> Dossier:
    """Return the dossier of these bytes. Whatever they are, all of them are in it."""
    body, told = _object(request), _object(asked or b"{}") or {}
    text, reply_text = _text(request), _text(reply or b"")
    flagged = told.get("pointer")
    turns = _turns(body or {}, flagged if isinstance(flagged, str) else None)
    return Dossier(
        request=text,
        request_bytes=len(request),
        reply=reply_text,
        reply_bytes=len(reply or b""),
        readable=body is not None,
        turns=turns,
        replies=_replies(reply, told),
        tools=_tools(body or {}),
        parameters=tuple(
            (str(name), show(value))
            for name, value in (body or {}).items()
            if name not in ("messages", "tools") or not isinstance(value, list)
        ),
        asked=_checked(told),
        hidden=count_hidden(_decoded(text) + _decoded(reply_text)),
    )


def show(value: object) -> str:
    """Return a JSON value as text that can be read: a string as it is, anything else indented."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _decoded(text: str) -> str:
    """Return the text with JSON's escapes resolved: what an escape hides counts too."""
    try:
        return show(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _turns(body: Mapping[str, Any], flagged: str | None) -> tuple[Turn, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return ()
    return tuple(
        _turn(message, flagged=flagged is not None and _within(flagged, f"/messages/{index}"))
        for index, message in enumerate(messages)
    )


def _within(pointer: str, parent: str) -> bool:
    return pointer == parent or pointer.startswith(parent + "/")


def _turn(message: object, *, flagged: bool = False) -> Turn:
    if not isinstance(message, dict):
        return Turn("", (show(message),), flagged=flagged)
    known = {"role", "content", "tool_calls"}
    rest = tuple((str(name), show(value)) for name, value in message.items() if name not in known and value is not None)
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        calls, rest = [], (*rest, ("tool_calls", show(calls)))
    return Turn(
        role=str(message.get("role", "")),
        texts=_texts(message.get("content")),
        calls=tuple(_call(call) for call in calls),
        fields=rest,
        flagged=flagged,
    )


def _texts(content: object) -> tuple[str, ...]:
    if content is None or content == "":
        return ()
    parts = content if isinstance(content, list) else [content]
    return tuple(
        part["text"]
        if isinstance(part, dict) and part.keys() == {"type", "text"} and isinstance(part["text"], str)
        else show(part)
        for part in parts
    )


def _call(call: object) -> Call:
    if not isinstance(call, dict):
        return Call("", show(call))
    function = call.get("function", call)
    if not isinstance(function, dict):
        return Call("", show(call))
    arguments = function.get("arguments", "")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return Call(str(function.get("name", "")), arguments)
    fields = arguments.items() if isinstance(arguments, dict) else ()
    return Call(
        str(function.get("name", "")), show(arguments), tuple((str(name), show(value)) for name, value in fields)
    )


def _replies(reply: bytes | None, told: Mapping[str, Any]) -> tuple[Reply, ...]:
    """Return the held choices: from the reply itself where it is one JSON object, else (a stream) as they were told."""
    if reply is None:
        return ()
    choices = (_object(reply) or {}).get("choices")
    if isinstance(choices, list):
        return tuple(
            Reply(number, _turn(choice.get("message")))
            for number, choice in enumerate(choices)
            if isinstance(choice, dict)
        )
    actions = told.get("actions")
    return tuple(
        Reply(
            action["choice"] if isinstance(action.get("choice"), int) else number,
            _turn({"role": "assistant", "content": action.get("text"), "tool_calls": action.get("tool_calls")}),
        )
        for number, action in enumerate(actions if isinstance(actions, list) else [])
        if isinstance(action, dict)
    )


def _tools(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    tools = body.get("tools")
    if not isinstance(tools, list):
        return ()
    found = []
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = function.get("name", "") if isinstance(function, dict) else ""
        found.append((str(name), show(tool)))
    return tuple(found)


def _checked(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was told, each part only in the shape that the page shows."""
    scores, domains = told.get("scores"), told.get("domains")
    return {
        "scores": _numbers(scores) if isinstance(scores, dict) else {},
        "domains": _numbers(domains) if isinstance(domains, dict) else {},
        "reasons": _objects(told.get("reasons")),
        "unjudged": _objects(told.get("unjudged")),
        **{
            name: value if isinstance(value := told.get(name), str) else ""
            for name in ("label", "message", "rationale", "release")
        },
    }


def _numbers(value: Mapping[Any, Any]) -> dict[str, float]:
    return {str(name): float(each) for name, each in value.items() if isinstance(each, int | float)}


def _objects(value: object) -> list[dict[str, str]]:
    items = value if isinstance(value, list) else []
    return [
        {str(name): each for name, each in item.items() if isinstance(each, str)}
        for item in items
        if isinstance(item, dict)
    ]
