"""A reply of the Responses API, whole and streamed: every item, in every variant that a client could read."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from gateway.errors import UpstreamError
from gateway.parts import Message, ToolCall
from gateway.wire.format import Choice, Notice, Problem, Reply
from gateway.wire.hold import Hold
from gateway.wire.items import Items, acts
from gateway.wire.reading import Reading, Strands
from gateway.wire.reply import heading, parse_object, read_arguments, read_asides
from gateway.wire.responses_shapes import ending, error_events
from gateway.wire.sse import write_named
from gateway.wire.strict import dumps, join

MAX_OUTPUT: Final = 1024
_STATES: Final = ("created", "queued", "in_progress", "completed", "incomplete", "failed")
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")
_ACTIONS: Final = ("function_call_arguments", "custom_tool_call_input", "shell_call_command")
_SPEECH: Final = (
    "output_text",
    "refusal",
    "reasoning_text",
    "reasoning_summary_text",
    "reasoning_summary_part",
    "content_part",
    "output_text.annotation",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "code_interpreter_call_code",
    "mcp_call",
    "mcp_call_arguments",
    "mcp_list_tools",
    "audio.transcript",
    "shell_call_output_content",
    "compaction",
)
_MEDIA: Final = {"audio": "audio cannot be judged", "image_generation_call": "an image cannot be judged"}
_ONCE: Final = ("type", "item_id", "status", "obfuscation")
_PLACE: Final = ("output_index", "content_index", "summary_index", "command_index", "annotation_index")


def parse_reply(data: bytes) -> Reply:
    """Return the reply in ``data``, every item of it, or raise UpstreamError(invalid)."""
    body = parse_object(data)
    output = body.get("output")
    if not isinstance(output, list) or len(output) > MAX_OUTPUT:
        raise UpstreamError("invalid", "the upstream's reply has no list of output items")
    sofar = _Sofar()
    for index, item in enumerate(output):
        sofar.item(index, item)
    return Reply((sofar.choice(),), **_heading(body), asides=read_asides(body, "output"))


def _heading(body: Mapping[str, Any]) -> dict[str, Any]:
    created = body.get("created_at")
    return heading(body) | {"created": int(created) if isinstance(created, int | float) else 0}


class _Sofar:
    """What items and events add up to."""

    def __init__(self) -> None:
        self.acts = False
        self._items: dict[int, dict[bytes, Any]] = {}
        self._proposed: dict[int, dict[str, list[str]]] = {}
        self._speech = Strands()
        self._unjudged: dict[str, str] = {}

    def item(self, index: int, item: object) -> None:
        """Add one variant of the item at ``index``."""
        self._items.setdefault(index, {}).setdefault(dumps(item), item)
        self.acts = self.acts or acts(item) or (isinstance(item, dict) and item.get("result") is not None)

    def event(self, kind: str, event: Mapping[str, Any]) -> None:
        """Add an event that is neither an item nor a response."""
        *_, family, last = ("", *kind.removeprefix("response.").rsplit(".", 1))
        place = [str(event[name]) for name in _PLACE if isinstance(event.get(name), int)]
        pointer = join("/events", family, *place)
        for name, value in event.items():
            if family in _ACTIONS and name in ("delta", "arguments", "input", "command"):
                self._propose(event, f"{family}/{'delta' if last == 'delta' else 'done'}", value)
            elif family in _MEDIA and name in ("delta", "partial_image_b64"):
                self._refuse(pointer, _MEDIA[family])
            elif name in _ONCE:
                self._speech.once(value, join("/events", name))
            elif not (name in (*_PLACE, "sequence_number") and isinstance(value, int)):
                self._speech.weave({name: value}, pointer if last == "delta" else join(pointer, last))
        if family in _ACTIONS:
            self.acts = True
        elif family not in _SPEECH and family not in _MEDIA:
            self._refuse(pointer, "unknown type of event")

    def _refuse(self, pointer: str, reason: str) -> None:
        self.acts = True
        self._unjudged.setdefault(pointer, reason)

    def _propose(self, event: Mapping[str, Any], source: str, value: object) -> None:
        index = event.get("output_index")
        place = index if isinstance(index, int) else 0
        texts = self._proposed.setdefault(place, {})
        text = value if isinstance(value, str) else dumps(value).decode()
        command = event.get("command_index")
        texts.setdefault(f"{source}/{command}" if isinstance(command, int) else source, []).append(text)

    def choice(self) -> Choice:
        """Return everything as one choice, variants side by side."""
        reading = Reading(trusted=True)
        items = Items(reading)
        texts: dict[str, None] = {}
        calls: list[ToolCall] = []
        for index, variants in sorted(self._items.items()):
            found: dict[tuple[str, str], ToolCall] = {}
            for item in variants.values():
                message = items.read(item, f"/output/{index}")
                texts |= dict.fromkeys([message.text] if message.text else [])
                found |= {(call.name, call.arguments): call for call in message.tool_calls}
            calls += _with_pieces(index, list(found.values()), self._proposed.get(index, {}), reading)
        for index, pieces in self._proposed.items():
            if index not in self._items:
                calls += _with_pieces(index, [], pieces, reading)
        texts |= dict.fromkeys(self._speech.texts(reading, "\n".join(texts)))
        for pointer, reason in self._unjudged.items():
            reading.refuse(pointer, reason)
        unjudged = tuple(dict.fromkeys(reading.unjudged))
        said = Message("assistant", "\n".join(texts), "/output", tuple(calls))
        return Choice(0, said, unjudged, tuple(dict.fromkeys(reading.marks)))


def _with_pieces(
    index: int, calls: list[ToolCall], pieces: Mapping[str, list[str]], reading: Reading
) -> list[ToolCall]:
    """Return the calls of one item, and beside them what the events made of its arguments, where that differs."""
    pointer = f"/output/{index}"
    found = [call for call in calls if call.arguments not in ("", "{}")] or calls
    for text in dict.fromkeys("".join(parts) for parts in pieces.values()):
        if not text or any(_holds(call, text) for call in found):
            continue
        if not calls:
            reading.refuse(pointer, "arguments without a call")
        name = calls[0].name if calls else ""
        found = [call for call in found if call.arguments] + [
            ToolCall(name, read_arguments(text, join(pointer, "arguments"), reading), pointer)
        ]
    return found


def _holds(call: ToolCall, text: str) -> bool:
    return text == call.arguments or dumps(text).decode() in call.arguments


class ResponsesStream(Hold):
    """A streamed response: text passes, actions are held."""

    def __init__(self) -> None:
        super().__init__()
        self._sofar = _Sofar()
        self._asides = Strands()
        self._heading: dict[str, Any] = {"id": "", "model": "", "created": 0}
        self._ended = False
        self._sent = 0
        self._shown: list[dict[str, Any]] = []

    @property
    def acts(self) -> bool:
        """Whether anything that a client would execute has begun."""
        return self._sofar.acts

    @property
    def complete(self) -> bool:
        """Whether the response has its end."""
        return self._ended

    def parsed(self) -> Reply:
        """Return the reply so far."""
        return Reply((self._sofar.choice(),), **self._heading, asides=tuple(self._asides.found()))

    def refusal(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a refusal."""
        return self._ending(notice, "refusal")

    def answer(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a normal answer."""
        return self._ending(notice, "output_text")

    def _ending(self, notice: Notice, kind: Literal["refusal", "output_text"]) -> list[bytes]:
        named = Notice(
            notice.text,
            notice.model or self._heading["model"],
            id=self._heading["id"] or notice.id,
            created=self._heading["created"] or notice.created,
            governance=notice.governance,
        )
        shown = [item | {"status": item.get("status") or "incomplete"} for item in self._shown]
        return ending(named, kind, begun=self.begun, sequence=self._sent, before=shown)

    def error(self, problem: Problem) -> list[bytes]:
        """Return an error event."""
        return error_events(problem, self._sent)

    def _frame(self, data: bytes) -> bytes:
        return write_named(parse_object(data)["type"], data)

    def _add(self, data: bytes) -> None:
        event = parse_object(data)
        kind = event.get("type")
        if kind == "error" or event.get("error") is not None or not isinstance(kind, str):
            raise UpstreamError("invalid", f"the upstream broke off: {str(event.get('message'))[:200]}")
        if self._ended:
            raise UpstreamError("invalid", "the upstream's stream goes on after its end")
        response = event.get("response")
        if kind.removeprefix("response.") in _STATES and isinstance(response, dict):
            self._state(response)
            self._asides.once({name: value for name, value in event.items() if name != "response"}, "")
        elif kind in ("response.output_item.added", "response.output_item.done"):
            index = event.get("output_index")
            self._sofar.item(index if isinstance(index, int) else len(self._shown), event.get("item"))
            known = ("item", "output_index") if isinstance(index, int) else ("item",)
            self._asides.once({name: value for name, value in event.items() if name not in known}, "")
        else:
            self._sofar.event(kind, event)
        self._ended = kind in _ENDS

    def _state(self, response: dict[str, Any]) -> None:
        if not self._heading["id"]:
            self._heading = _heading(response)
        output = response.get("output") or []
        if not isinstance(output, list) or len(output) > MAX_OUTPUT:
            raise UpstreamError("invalid", "the upstream sent a response whose output is not a list")
        for index, item in enumerate(output):
            self._sofar.item(index, item)
        self._asides.once({name: value for name, value in response.items() if name != "output"}, "/response")

    def _passed(self, data: bytes) -> None:
        super()._passed(data)
        event = parse_object(data)
        number = event.get("sequence_number")
        self._sent = max(self._sent, number if isinstance(number, int) else 0) + 1
        index, item = event.get("output_index"), event.get("item")
        if isinstance(item, dict) and event["type"] == "response.output_item.added":
            self._shown.append(dict(item))
        elif isinstance(index, int) and 0 <= index < len(self._shown):
            self._show(self._shown[index], event)

    def _show(self, item: dict[str, Any], event: Mapping[str, Any]) -> None:
        """Keep what the client has of an item, for the response that a refusal ends with."""
        kind = event["type"]
        if kind == "response.output_item.done" and isinstance(event.get("item"), dict):
            item |= event["item"]
        elif kind == "response.output_text.delta" and isinstance(event.get("delta"), str):
            content = item.get("content")
            if not isinstance(content, list) or not content:
                content = item["content"] = [{"type": "output_text", "text": "", "annotations": []}]
            content[-1] = content[-1] | {"text": str(content[-1].get("text") or "") + event["delta"]}
