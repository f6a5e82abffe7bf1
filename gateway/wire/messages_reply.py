"""A reply of the Messages API, whole and streamed: every block, in every variant that a client could read."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import UpstreamError
from gateway.parts import Message, ToolCall
from gateway.wire.blocks import SPOKEN, Blocks
from gateway.wire.format import Choice, Notice, Problem, Reply
from gateway.wire.hold import Hold
from gateway.wire.messages_shapes import ending, error_events
from gateway.wire.reading import Reading, Strands
from gateway.wire.reply import heading, parse_object, read_arguments, read_asides
from gateway.wire.sse import write_named
from gateway.wire.strict import dumps, join

MAX_BLOCKS: Final = 1024
_SPEECH: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_EVENTS: Final = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
)


def parse_reply(data: bytes) -> Reply:
    """Return the reply in ``data``, every block of it, or raise UpstreamError(invalid)."""
    body = parse_object(data)
    content = body.get("content")
    if not isinstance(content, list) or len(content) > MAX_BLOCKS:
        raise UpstreamError("invalid", "the upstream's reply has no list of content blocks")
    sofar = _Sofar()
    for index, block in enumerate(content):
        sofar.block(index, block)
    return Reply((sofar.choice(),), **heading(body), asides=read_asides(body, "content"))


class _Sofar:
    """What blocks and their pieces add up to."""

    def __init__(self) -> None:
        self.acts = False
        self._blocks: dict[int, list[object]] = {}
        self._json: dict[int, list[str]] = {}
        self._speech = Strands()
        self._unjudged: dict[str, str] = {}

    def block(self, index: int, block: object) -> None:
        """Add a block as it begins, or whole."""
        self._blocks.setdefault(index, []).append(block)
        self.acts = self.acts or not isinstance(block, dict) or block.get("type") not in SPOKEN

    def piece(self, index: int, delta: Mapping[str, Any]) -> None:
        """Add a piece of a block."""
        kind = delta.get("type")
        at = join("/content", index)
        rest = {name: value for name, value in delta.items() if name != "type"}
        if kind == "input_json_delta":
            self.acts = self.acts or not self._is_served(index)
            text = rest.pop("partial_json", "")
            self._json.setdefault(index, []).append(text if isinstance(text, str) else dumps(text).decode())
        elif kind == "citations_delta":
            self._speech.weave(rest.pop("citation", None), join(at, "citation"))
        elif isinstance(kind, str) and kind in _SPEECH:
            self._speech.weave(rest.pop(_SPEECH[kind], None), join(at, kind))
        else:
            self.refuse(at, "unknown type of piece")
        self._speech.weave(rest, join(at, "delta"))

    def refuse(self, pointer: str, reason: str) -> None:
        """List a part as unjudged; nobody knows what a client would do with it."""
        self.acts = True
        self._unjudged.setdefault(pointer, reason)

    def aside(self, value: object, pointer: str) -> None:
        """Add strings that belong to no block."""
        self._speech.once(value, pointer)

    def _is_served(self, index: int) -> bool:
        blocks = self._blocks.get(index, [])
        return bool(blocks) and all(isinstance(one, dict) and one.get("type") in SPOKEN for one in blocks)

    def choice(self) -> Choice:
        """Return everything as one choice."""
        reading = Reading(trusted=True)
        texts: list[str] = []
        calls: list[ToolCall] = []
        for index, blocks in sorted(self._blocks.items()):
            at = join("/content", index)
            read = Blocks(reading, "assistant", "")
            for block in blocks:
                read.block(block, at)
            texts += [*read.texts, *(message.text for message in read.messages)]
            calls += self._with_pieces(index, read.calls, reading)
        for index in self._json.keys() - self._blocks.keys():
            calls += self._with_pieces(index, [], reading)
        texts += self._speech.texts(reading, "\n".join(texts))
        for pointer, reason in self._unjudged.items():
            reading.refuse(pointer, reason)
        said = Message("assistant", "\n".join(text for text in texts if text), "/content", tuple(calls))
        return Choice(0, said, tuple(dict.fromkeys(reading.unjudged)), tuple(dict.fromkeys(reading.marks)))

    def _with_pieces(self, index: int, calls: list[ToolCall], reading: Reading) -> list[ToolCall]:
        at = join("/content", index)
        text = "".join(self._json.get(index, []))
        if not text:
            return calls
        if not calls and self._is_served(index):
            self._speech.weave(text, join(at, "input"))
            return []
        if not calls:
            reading.refuse(at, "arguments without a call")
        arguments = read_arguments(text, join(at, "input"), reading)
        whole = [call for call in calls if call.arguments not in ("", "{}")]
        return [*whole, ToolCall(calls[0].name if calls else "", arguments, at)]


class MessagesStream(Hold):
    """A streamed message: text passes, actions are held."""

    def __init__(self) -> None:
        super().__init__()
        self._sofar = _Sofar()
        self._asides = Strands()
        self._heading: dict[str, Any] = {"id": "", "model": "", "created": 0}
        self._ended = False
        self._open: list[int] = []
        self._next = 0

    @property
    def acts(self) -> bool:
        """Whether anything that a client would execute has begun."""
        return self._sofar.acts

    @property
    def complete(self) -> bool:
        """Whether the message has its end."""
        return self._ended

    def parsed(self) -> Reply:
        """Return the reply so far."""
        return Reply((self._sofar.choice(),), **self._heading, asides=tuple(self._asides.found()))

    def refusal(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a refusal."""
        return ending(notice, "refusal", begun=self.begun, index=self._next, open_blocks=self._open)

    def answer(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a normal answer."""
        return ending(notice, "end_turn", begun=self.begun, index=self._next, open_blocks=self._open)

    def error(self, problem: Problem) -> list[bytes]:
        """Return an error event."""
        return error_events(problem)

    def _frame(self, data: bytes) -> bytes:
        return write_named(parse_object(data)["type"], data)

    def _add(self, data: bytes) -> None:
        event = parse_object(data)
        kind = event.get("type")
        if kind == "error" or event.get("error") is not None or not isinstance(kind, str):
            raise UpstreamError("invalid", f"the upstream broke off: {str(event.get('error'))[:200]}")
        if self._ended:
            raise UpstreamError("invalid", "the upstream's stream goes on after its end")
        index = event.get("index")
        index = index if isinstance(index, int) else 0
        read = {"type", "index"} if isinstance(event.get("index"), int) else {"type"}
        message, delta = event.get("message"), event.get("delta")
        if kind == "message_start" and isinstance(message, dict):
            read.add("message")
            self._start(message)
        elif kind == "content_block_start":
            read.add("content_block")
            self._sofar.block(index, event.get("content_block"))
        elif kind == "content_block_delta" and isinstance(delta, dict):
            read.add("delta")
            self._sofar.piece(index, delta)
        elif kind == "message_delta":
            self._sofar.aside(delta, "/delta")
            read.add("delta")
        elif kind not in _EVENTS:
            self._sofar.refuse(join("/events", kind), "unknown type of event")
        self._asides.once({name: value for name, value in event.items() if name not in read}, "")
        self._ended = kind == "message_stop"

    def _start(self, message: dict[str, Any]) -> None:
        self._heading = heading(message)
        content = message.get("content") or []
        if not isinstance(content, list) or len(content) > MAX_BLOCKS:
            raise UpstreamError("invalid", "the upstream sent a message whose content is not a list")
        for index, block in enumerate(content):
            self._sofar.block(index, block)
        self._asides.once({name: value for name, value in message.items() if name != "content"}, "/message")

    def _passed(self, data: bytes) -> None:
        event = parse_object(data)
        index = event.get("index")
        if event["type"] == "ping":
            return
        super()._passed(data)
        if not isinstance(index, int):
            return
        if event["type"] == "content_block_start":
            self._open.append(index)
            self._next = max(self._next, index + 1)
        elif event["type"] == "content_block_stop" and index in self._open:
            self._open.remove(index)
