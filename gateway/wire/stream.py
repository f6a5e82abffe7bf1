"""A streamed chat completion: what its chunks add up to, and what of it waits for a verdict."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import UpstreamError
from gateway.wire.chat_shapes import answer_events, error_events, refusal_events
from gateway.wire.format import Choice, Notice, Problem
from gateway.wire.hold import Hold
from gateway.wire.reading import Strands
from gateway.wire.reply import ChatReply, heading, item_index, parse_object, read_choice
from gateway.wire.sse import DONE
from gateway.wire.strict import join

_DELTA: Final = ("tool_calls", "function_call", "audio")
_ONCE: Final = ("role", "type", "id")


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    pieces: int = 0
    kind: str = "function"
    arguments: list[str] = field(default_factory=list)
    odd: bool = False
    others: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _ChoiceSoFar:
    text: list[str] = field(default_factory=list)
    rest: Strands = field(default_factory=Strands)
    audio: bool = False
    calls: dict[int, _Call] = field(default_factory=dict)
    finished: bool = False


class StreamedReply:
    """Adds chunks up to the reply that a client would see."""

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceSoFar] = {}
        self._heading: dict[str, Any] = {"id": "", "model": "", "created": 0}
        self._asides = Strands()
        self.acts = False

    @property
    def complete(self) -> bool:
        """Whether there is a choice and every choice has its finish reason."""
        return bool(self._choices) and all(choice.finished for choice in self._choices.values())

    @property
    def open_choices(self) -> tuple[int, ...]:
        """Indices of the choices without a finish reason; the first one where none began."""
        return tuple(index for index, choice in sorted(self._choices.items()) if not choice.finished) or (0,)

    def add(self, data: bytes) -> None:
        """Parse and add one event's data; raise UpstreamError(invalid) if it is not a chunk or is an error."""
        body = parse_object(data)
        if (error := body.get("error")) is not None:
            message = error.get("message") if isinstance(error, dict) else error
            raise UpstreamError("invalid", f"the upstream broke off: {message}")
        if not self._heading["id"]:
            self._heading = heading(body)
        self._asides.once({name: value for name, value in body.items() if name != "choices"}, "")
        choices = body.get("choices") or []
        if not isinstance(choices, list):
            raise UpstreamError("invalid", "the upstream sent a chunk whose choices are not a list")
        for position, item in enumerate(choices):
            if not isinstance(item, dict):
                raise UpstreamError("invalid", "the upstream sent a choice that is not an object")
            self._add_choice(item_index(item, position), item)

    def _add_choice(self, index: int, item: Mapping[str, Any]) -> None:
        choice = self._choices.setdefault(index, _ChoiceSoFar())
        for key in ("delta", "message"):  # some servers close a stream with a whole message
            delta = item.get(key)
            if delta is None:
                continue
            if not isinstance(delta, dict):
                raise UpstreamError("invalid", f"the upstream sent a {key} that is not an object")
            self._add_delta(choice, delta)
        known = ("delta", "message", "index") if isinstance(item.get("index"), int) else ("delta", "message")
        for name, value in item.items():
            if name == "logprobs":
                choice.rest.weave(value, join("/choices", index, "logprobs"))
            elif name not in known:
                choice.rest.once({name: value}, join("/choices", index))
        if item.get("finish_reason") is not None:
            choice.finished = True

    def _add_delta(self, choice: _ChoiceSoFar, delta: Mapping[str, Any]) -> None:
        for key in ("content", "refusal"):
            if isinstance(text := delta.get(key), str):
                choice.text.append(text)
        if delta.get("audio") is not None:
            self.acts = choice.audio = True
        for name, value in delta.items():
            if name in _ONCE:
                choice.rest.once(value, join("/delta", name))
            elif name not in _DELTA and not (name in ("content", "refusal") and isinstance(value, str)):
                choice.rest.weave({name: value}, "/delta")
        raw = delta.get("tool_calls")
        pieces: list[Any] = raw if isinstance(raw, list) else [] if raw is None else [raw]
        if (legacy := delta.get("function_call")) is not None:
            pieces = [*pieces, {"index": -1, "function": legacy}]
        for piece in pieces:
            self.acts = True
            _add_call(choice, piece)

    def reply(self) -> ChatReply:
        """Return the reply so far."""
        choices = tuple(_choice(index, choice) for index, choice in sorted(self._choices.items()))
        return ChatReply(choices, **self._heading, asides=tuple(self._asides.found()))


def _choice(index: int, choice: _ChoiceSoFar) -> Choice:
    calls = [
        {
            "type": call.kind,
            "split_name": call.pieces > 1,
            "others": call.others or None,
            "function": {
                "name": call.name or None,
                "arguments": {"pieces": call.arguments} if call.odd else "".join(call.arguments),
            },
        }
        for _, call in sorted(choice.calls.items())
    ]
    message: dict[str, Any] = {"content": "".join(choice.text)}
    if calls:
        message["tool_calls"] = calls
    if choice.audio:
        message["audio"] = {}
    rest = deepcopy(choice.rest)  # reading adds to it, and more events may come
    return read_choice(index, message, f"/choices/{index}/message", rest)


def _add_call(choice: _ChoiceSoFar, piece: object) -> None:
    if not isinstance(piece, dict):
        choice.calls.setdefault(len(choice.calls), _Call()).kind = "unknown"
        return
    function = piece.get("function")
    function = function if isinstance(function, dict) else {}
    last = max(choice.calls, default=-1)
    call = choice.calls.setdefault(item_index(piece, last + 1 if function.get("name") else max(last, 0)), _Call())
    call.kind = piece.get("type") or call.kind
    others = {name: value for name, value in piece.items() if name not in ("index", "type", "function")}
    inner = {name: value for name, value in function.items() if name not in ("name", "arguments")}
    if others or inner:
        call.others.append(others | inner)
    if not isinstance(piece.get("function") or {}, dict) or not isinstance(piece.get("index", 0), int):
        call.odd = True
    name, arguments = function.get("name"), function.get("arguments")
    if isinstance(name, str) and name:
        call.name += name
        call.pieces += 1
    if isinstance(arguments, str):
        call.arguments.append(arguments)
    elif arguments is not None:
        call.odd = True


class HeldStream(Hold):
    """A streamed chat completion: text passes, actions are held."""

    end = DONE

    def __init__(self) -> None:
        super().__init__()
        self.reply = StreamedReply()

    @property
    def acts(self) -> bool:
        """Whether anything that a client would execute has begun."""
        return self.reply.acts

    @property
    def complete(self) -> bool:
        """Whether every choice has its finish reason."""
        return self.reply.complete

    @property
    def open_choices(self) -> tuple[int, ...]:
        """Indices of the choices without a finish reason; the first one where none began."""
        return self.reply.open_choices

    def parsed(self) -> ChatReply:
        """Return the reply so far."""
        return self.reply.reply()

    def refusal(self, notice: Notice) -> list[bytes]:
        """Return the chunks that end the stream with a refusal."""
        return refusal_events(notice)

    def answer(self, notice: Notice) -> list[bytes]:
        """Return the chunks that end the stream with a normal answer."""
        return answer_events(notice)

    def error(self, problem: Problem) -> list[bytes]:
        """Return an error event and the end."""
        return error_events(problem)

    def _add(self, data: bytes) -> None:
        self.reply.add(data)
