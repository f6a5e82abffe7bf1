"""A streamed chat completion: what its chunks add up to, and what of it waits for a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import UpstreamError
from gateway.wire.reply import ChatReply, Choice, heading, item_index, parse_object, read_choice
from gateway.wire.sse import EventParser, write_event

MAX_STREAM: Final = 16 * 1024 * 1024
"""Bytes of one streamed reply."""


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    pieces: int = 0
    kind: str = "function"
    arguments: list[str] = field(default_factory=list)
    odd: bool = False


@dataclass(slots=True)
class _ChoiceSoFar:
    text: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    finished: bool = False


class StreamedReply:
    """Adds chunks up to the reply that a client would see."""

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceSoFar] = {}
        self._heading: dict[str, Any] = {"id": "", "model": "", "created": 0}
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
        if item.get("finish_reason") is not None:
            choice.finished = True

    def _add_delta(self, choice: _ChoiceSoFar, delta: Mapping[str, Any]) -> None:
        for key in ("content", "refusal"):
            if isinstance(text := delta.get(key), str):
                choice.text.append(text)
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
        return ChatReply(choices, **self._heading)


def _choice(index: int, choice: _ChoiceSoFar) -> Choice:
    calls = [
        {
            "type": call.kind,
            "split_name": call.pieces > 1,
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
    return read_choice(index, message, f"/choices/{index}/message")


def _add_call(choice: _ChoiceSoFar, piece: object) -> None:
    if not isinstance(piece, dict):
        choice.calls.setdefault(len(choice.calls), _Call()).kind = "unknown"
        return
    function = piece.get("function")
    function = function if isinstance(function, dict) else {}
    last = max(choice.calls, default=-1)
    call = choice.calls.setdefault(item_index(piece, last + 1 if function.get("name") else max(last, 0)), _Call())
    call.kind = piece.get("type") or call.kind
    name, arguments = function.get("name"), function.get("arguments")
    if isinstance(name, str) and name:
        call.name += name
        call.pieces += 1
    if isinstance(arguments, str):
        call.arguments.append(arguments)
    elif arguments is not None:
        call.odd = True


class HeldStream:
    """Lets text through as it comes; from the first piece of an action on, in any choice, everything is held."""

    def __init__(self) -> None:
        self.reply = StreamedReply()
        self.held: list[bytes] = []
        self.done = False
        self._parser = EventParser()
        self._size = 0

    def feed(self, piece: bytes) -> bytes:
        """Take what the upstream sent; return what may pass."""
        self._size += len(piece)
        if self._size > MAX_STREAM:
            raise UpstreamError("invalid", f"the upstream's stream is longer than {MAX_STREAM} bytes")
        return self._take(self._parser.feed(piece))

    def finish(self) -> bytes:
        """Take the end of the stream; raise UpstreamError(invalid) if it broke off; return what may pass."""
        passed = b"" if self.done else self._take(self._parser.close())
        if not self.done and not self.reply.complete:
            raise UpstreamError("invalid", "the upstream's stream broke off")
        return passed

    def _take(self, events: list[bytes]) -> bytes:
        passed: list[bytes] = []
        for data in events:
            if self.done:
                raise UpstreamError("invalid", "the upstream's stream goes on after its end")
            if data == b"[DONE]":
                self.done = True
                continue
            if not data:
                continue
            self.reply.add(data)
            (self.held if self.reply.acts else passed).append(write_event(data))
        return b"".join(passed)
