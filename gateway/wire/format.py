"""What every wire format does: requests and replies to parts, streams held back, and every shape of an answer of ours.

``gateway.wire.routes`` lists the formats by route. Nothing here knows of decisions or policies: texts and objects come
in finished.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.parts import Conversation, Mark, Message, Unjudged
from gateway.wire.reading import is_mark
from gateway.wire.strict import dumps


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request. ``forwarded`` is our own encoding of what was parsed: the only bytes that an upstream gets.

    ``background`` asks for a reply that is fetched later; ``forwarded`` is then without that wish, because the gateway
    itself runs the request and keeps the reply.
    """

    conversation: Conversation
    forwarded: bytes
    model: str
    stream: bool = False
    choices: int = 1
    include_usage: bool = False
    max_tokens: int | None = None
    subject: str | None = None
    background: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One alternative of a reply. ``unjudged`` lists what of its actions the Safety head cannot read.

    ``message.text`` holds everything that was said, in whatever field: reasoning, refusals and annotations too.
    """

    index: int
    message: Message
    unjudged: tuple[Unjudged, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether it proposes anything that a client would execute."""
        return bool(self.message.tool_calls or self.unjudged)


@dataclass(frozen=True, slots=True)
class Reply:
    """A parsed reply: its choices, and the fields that a substitute for it repeats.

    ``asides`` are the strings outside the choices, such as what the upstream repeats of the request.
    """

    choices: tuple[Choice, ...]
    id: str = ""
    model: str = ""
    created: int = 0
    asides: tuple[Mark, ...] = ()

    @property
    def acting(self) -> tuple[Choice, ...]:
        """The choices that propose an action."""
        return tuple(choice for choice in self.choices if choice.acts)


def reply_views(asked: Conversation, reply: Reply, choices: Sequence[Choice] | None = None) -> list[Conversation]:
    """Return one conversation for each of ``choices`` (the acting ones): what was asked, then the choice as an answer.

    What stands beside the choices is judged with each of them, unless it only repeats what was asked.
    """
    asides = _news(asked, reply.asides)
    beside = [aside.text for aside in asides if not is_mark(aside.text)]
    marks = tuple(aside for aside in asides if is_mark(aside.text))
    views = []
    for choice in reply.acting if choices is None else choices:
        said = choice.message
        text = "\n".join(text for text in (said.text, *beside) if text)
        message = Message(said.role, text, said.pointer, said.tool_calls)
        messages = (*asked.messages, message)
        views.append(Conversation(messages, asked.tools, choice.unjudged, (*choice.marks, *marks)))
    return views


def _news(asked: Conversation, asides: Sequence[Mark]) -> list[Mark]:
    """Return the asides that do not repeat what was asked, each text once."""
    if not asides:
        return []
    known = "\n".join(
        [
            *(message.text for message in asked.messages),
            *(f"{call.name}\n{call.arguments}" for message in asked.messages for call in message.tool_calls),
            *(f"{tool.name}\n{tool.text}" for tool in asked.tools),
            *(mark.text for mark in asked.marks),
        ]
    )
    once = {aside.text: aside for aside in asides}
    return [one for text, one in once.items() if text not in known and dumps(text).decode()[1:-1] not in known]


@dataclass(frozen=True, slots=True)
class Notice:
    """What the gateway says in place of an upstream. ``governance`` is the object that tells a program the decision.

    ``id``, ``model`` and ``created`` repeat the reply that it replaces, where one had begun.
    """

    text: str
    model: str
    choices: tuple[int, ...] = (0,)
    id: str = ""
    created: int = 0
    governance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error to tell. ``kind`` is the OpenAI API's ``type``; ``extra`` joins the error object: a case, governance."""

    status: int
    message: str
    kind: str
    code: str | None = None
    param: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class HeldStream(Protocol):
    """A streamed reply on its way through: text passes, actions are held until somebody decided.

    ``held`` are the events that wait, ready to be sent; ``end`` is what closes the stream after them.
    """

    held: list[bytes]
    done: bool
    end: bytes

    @property
    def acts(self) -> bool:
        """Whether anything that a client would execute has begun."""
        ...

    @property
    def open_choices(self) -> tuple[int, ...]:
        """Indices of the choices that have no end yet; the first one where none began."""
        ...

    def feed(self, piece: bytes) -> bytes:
        """Take what the upstream sent; return what may pass. Raise UpstreamError(invalid) if it is no such stream."""
        ...

    def finish(self) -> bytes:
        """Take the end of the stream; raise UpstreamError(invalid) if it broke off; return what may pass."""
        ...

    def parsed(self) -> Reply:
        """Return the reply so far, with every variant of what a client could read in the events."""
        ...

    def refusal(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a refusal."""
        ...

    def answer(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a normal answer."""
        ...

    def error(self, problem: Problem) -> list[bytes]:
        """Return the events that end the stream with an error."""
        ...


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One route's format, put together from the functions of its modules. ``path`` is below an upstream's base URL.

    ``parse_request`` raises RequestError, ``parse_reply`` UpstreamError(invalid). ``refusal`` and ``answer`` are bodies
    with status 200, empty where the format has none and an error must be told; the ``_events`` are whole streams.
    """

    name: str
    path: str
    streams: bool
    parse_request: Callable[[bytes], Request]
    parse_reply: Callable[[bytes], Reply]
    hold: Callable[[], HeldStream]
    refusal: Callable[[Notice], bytes]
    refusal_events: Callable[[Notice], list[bytes]]
    answer: Callable[[Notice], bytes]
    answer_events: Callable[[Notice], list[bytes]]
    error: Callable[[Problem], bytes]
    error_events: Callable[[Problem], list[bytes]]


MAX_REPLY_CHOICES: Final = 128
"""Of a reply; a request asks for at most 8."""
