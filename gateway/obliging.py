"""Obliging: what a decision asks of a request that passes is done to its bytes, and undone in what comes back."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import orjson

from gateway.decision import CapTokens, Obligation, Redact, RequireUpstream, RestrictTools, SystemNotice, Tag
from gateway.errors import UnmetObligation
from gateway.policy.redaction import Restoration, redact, restore
from gateway.wire.format import Request, WireFormat
from gateway.wire.sse import DONE, EventParser, write_event
from gateway.wire.strict import dumps, loads

Json = dict[str, Any]

ENFORCED: Final = frozenset({"redact", "restrict_tools", "cap_tokens", "system_notice", "tag"})
"""The obligations that are met on every upstream; ``require_upstream`` is met by a trusted one only."""

_CLOSED: Final = frozenset({"model", "role", "type", "id", "call_id", "tool_call_id", "tool_use_id", "signature"})
"""Fields that name things; what a person wrote does not stand there."""
_LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "completions": ("max_tokens",),
    "embeddings": (),
}


@dataclass(frozen=True, slots=True)
class Obliged:
    """A request as it may be forwarded, and what its placeholders stand for."""

    request: Request
    originals: Mapping[str, str] = field(default_factory=dict)

    def restored(self, body: bytes) -> bytes:
        """Return a whole reply with what was redacted put back; unchanged when nothing was."""
        if not self.originals:
            return body
        try:
            value = loads(body)
        except ValueError:
            return body
        return dumps(_restored(value, self.originals))


def oblige(request: Request, obligations: Sequence[Obligation], wire: WireFormat) -> Obliged:
    """Return ``request``, of the format ``wire``, as ``obligations`` allow it to be forwarded.

    UnmetObligation when the route has no place for what is asked.
    """
    if not obligations:
        return Obliged(request)
    body = loads(request.forwarded)
    if not isinstance(body, dict):
        raise UnmetObligation("the policy obliges to change a request that is no object")
    originals: dict[str, str] = {}
    for each in obligations:
        match each:
            case Redact():
                avoid = request.forwarded.decode()
                body = _redacted(body, each, originals, avoid)
                if each.restore and request.stream and wire.name != "chat" and originals:
                    raise UnmetObligation(
                        "the policy puts redacted data back into the reply, which a stream of this route cannot do: "
                        "send it without `stream`",
                        param="/stream",
                    )
            case RestrictTools():
                _restrict(body, each)
            case CapTokens():
                _cap(body, each.max, wire.name)
            case SystemNotice():
                _tell(body, each.text, wire.name)
    restores = any(isinstance(each, Redact) and each.restore for each in obligations)
    parsed = wire.parse_request(orjson.dumps(body))
    kept = {each.name: getattr(request, each.name) for each in fields(request)}
    changed = {name: getattr(parsed, name) for name in ("conversation", "forwarded", "max_tokens")}
    return Obliged(Request(**{**kept, **changed}), originals if restores else {})


_KINDS: Final[Mapping[str, type[Obligation]]] = {
    kind.name: kind for kind in (Redact, RestrictTools, CapTokens, SystemNotice, RequireUpstream, Tag)
}


def write_obligations(obligations: Sequence[Obligation]) -> bytes:
    """Return ``obligations`` as JSON: what a case keeps until people have decided."""
    return orjson.dumps([{"name": each.name, **asdict(each)} for each in obligations])


def read_obligations(data: bytes) -> tuple[Obligation, ...]:
    """Return what ``write_obligations`` wrote."""
    return tuple(
        _KINDS[each.pop("name")](**{name: _frozen(value) for name, value in each.items()}) for each in loads(data)
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def forbidden_calls(obligations: Sequence[Obligation], names: Sequence[str]) -> tuple[str, ...]:
    """Return the tools that may not be called."""
    limits = [each for each in obligations if isinstance(each, RestrictTools)]
    return tuple(name for name in names if not all(limit.allows(name) for limit in limits))


def _redacted(value: Any, obligation: Redact, originals: dict[str, str], avoid: str) -> Any:
    if isinstance(value, str):
        found = redact(value, obligation, originals, avoid)
        originals.update(found.originals)
        return found.text
    if isinstance(value, list):
        return [_redacted(each, obligation, originals, avoid) for each in value]
    if isinstance(value, dict):
        return {
            key: each if key in _CLOSED and isinstance(each, str) else _redacted(each, obligation, originals, avoid)
            for key, each in value.items()
        }
    return value


def _restrict(body: Json, limit: RestrictTools) -> None:
    """Take the tools away that may not be offered, and a choice that names one of them."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return
    kept = [tool for tool in tools if limit.allows(_name(tool))]
    choice = body.get("tool_choice")
    if kept:
        body["tools"] = kept
    else:
        body.pop("tools")
        body.pop("parallel_tool_calls", None)
    if choice is not None and (not kept or (isinstance(choice, dict) and not limit.allows(_name(choice)))):
        body.pop("tool_choice")


def _name(tool: object) -> str:
    inner = tool.get("function", tool) if isinstance(tool, dict) else {}
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else ""


def _cap(body: Json, limit: int, wire: str) -> None:
    names = _LIMITS[wire]
    if not names:
        return
    given = [body[name] for name in names if isinstance(body.get(name), int)]
    present = [name for name in names if name in body and body[name] is not None]
    for name in present or names[:1]:
        body[name] = min([limit, *given])


def _tell(body: Json, text: str, wire: str) -> None:
    match wire:
        case "chat":
            body["messages"] = [{"role": "system", "content": text}, *body["messages"]]
        case "responses":
            own = body.get("instructions")
            body["instructions"] = f"{text}\n\n{own}" if isinstance(own, str) and own else text
        case "messages":
            own = body.get("system")
            if isinstance(own, list):
                body["system"] = [{"type": "text", "text": text}, *own]
            else:
                body["system"] = f"{text}\n\n{own}" if own else text
        case _:
            raise UnmetObligation("the policy adds a notice to every request, and this route has no place for one")


def _restored(value: Any, originals: Mapping[str, str], *, quoted: bool = False) -> Any:
    if isinstance(value, str):
        return restore(value, originals, _escape) if quoted else restore(value, originals)
    if isinstance(value, list):
        return [_restored(each, originals) for each in value]
    if isinstance(value, dict):
        return {key: _restored(each, originals, quoted=key == "arguments") for key, each in value.items()}
    return value


def _escape(text: str) -> str:
    return orjson.dumps(text).decode()[1:-1]


async def restored_stream(chunks: AsyncIterator[bytes], originals: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Yield the chunks of a streamed chat completion with what was redacted put back, however it was cut."""
    parser, texts = EventParser(), _Texts(originals)
    async for chunk in chunks:
        for data in parser.feed(chunk):
            yield texts.event(data)
    for data in parser.close():
        yield texts.event(data)


class _Texts:
    """The texts of one stream, each restored in its own pieces."""

    def __init__(self, originals: Mapping[str, str]) -> None:
        self._originals = originals
        self._open: dict[tuple[Any, ...], Restoration] = {}

    def event(self, data: bytes) -> bytes:
        """Return one event with its pieces restored."""
        if data == b"[DONE]":
            return DONE
        body = loads(data)
        choices = body.get("choices") if isinstance(body, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice)
        return write_event(dumps(body))

    def _choice(self, choice: Json) -> None:
        index = choice.get("index", 0)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(index, delta)
        if choice.get("finish_reason") is not None:
            rest = self._rest(index)
            if rest:
                choice["delta"] = _joined(delta if isinstance(delta, dict) else {}, rest)

    def _delta(self, index: Any, delta: Json) -> None:
        for name in ("content", "refusal", "reasoning_content", "reasoning"):
            if isinstance(delta.get(name), str):
                delta[name] = self._text((index, name), delta[name])
        for call in delta.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                key = (index, "arguments", call.get("index", 0))
                function["arguments"] = self._text(key, function["arguments"])

    def _text(self, key: tuple[Any, ...], piece: str) -> str:
        if key not in self._open:
            quoted = key[1] == "arguments"
            self._open[key] = Restoration(self._originals, _escape) if quoted else Restoration(self._originals)
        return self._open[key].feed(piece)

    def _rest(self, index: Any) -> list[tuple[tuple[Any, ...], str]]:
        found = [(key, text.finish()) for key, text in self._open.items() if key[0] == index]
        return [(key, text) for key, text in found if text]


def _joined(delta: Json, rest: Sequence[tuple[tuple[Any, ...], str]]) -> Json:
    """Return the last delta of a choice with what was still held back of its texts."""
    joined = dict(delta)
    for key, text in rest:
        if key[1] == "arguments":
            calls = list(joined.get("tool_calls") or ())
            joined["tool_calls"] = [*calls, {"index": key[2], "function": {"arguments": text}}]
        else:
            joined[key[1]] = f"{joined.get(key[1]) or ''}{text}"
    return joined
