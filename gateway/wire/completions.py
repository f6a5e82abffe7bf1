"""POST /v1/completions: request, reply, stream and shapes of the legacy text completions."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from gateway.errors import RequestError, UpstreamError
from gateway.parts import Conversation, Message
from gateway.wire import fields
from gateway.wire.chat import MAX_MESSAGES, read_body, read_choices
from gateway.wire.chat_shapes import NO_USAGE, error_events
from gateway.wire.format import Choice, Notice, Problem, Reply, Request
from gateway.wire.hold import Hold
from gateway.wire.reading import Reading, Strands
from gateway.wire.reply import heading, item_index, parse_object, read_asides
from gateway.wire.reply import read_choices as read_answers
from gateway.wire.sse import DONE, write_event
from gateway.wire.strict import dumps, join

_READ = ("text", "index")


def parse_request(data: bytes) -> Request:
    """Return the request in ``data`` or raise RequestError; token ids are unjudged."""
    body, forwarded = read_body(data)
    reading = Reading()
    extra = fields.COMPLETIONS.read(body, reading)
    prompts = read_inputs(body.get("prompt"), "prompt", reading)
    options = body.get("stream_options") or {}
    return Request(
        conversation=Conversation((*extra, *prompts), (), tuple(reading.unjudged), tuple(reading.marks)),
        forwarded=forwarded,
        model=body["model"],
        stream=bool(body.get("stream")),
        choices=read_choices(body) * max(1, len(prompts)),
        include_usage=bool(options.get("include_usage")),
        max_tokens=body.get("max_tokens"),
        subject=body.get("safety_identifier") or body.get("user") or None,
    )


def read_inputs(value: object, name: str, reading: Reading) -> list[Message]:
    """Return each of the texts that a field holds; numbers in their place are token ids, which nobody reads here."""
    pointer = join("", name)
    if isinstance(value, str):
        return [Message("user", value, pointer)]
    if not isinstance(value, list) or not value:
        raise RequestError(f"`{name}` must be a text or a list of texts", param=pointer)
    if len(value) > MAX_MESSAGES and not fields.is_integer(value[0]):
        raise RequestError(f"more than {MAX_MESSAGES} texts in `{name}`", param=pointer)
    if all(fields.is_integer(item) for item in value):
        reading.refuse(pointer, "token ids cannot be judged")
        return [Message("user", "", pointer)]
    found = []
    for index, item in enumerate(value):
        at = join(pointer, index)
        if isinstance(item, str):
            found.append(Message("user", item, at))
        elif isinstance(item, list) and all(fields.is_integer(token) for token in item):
            reading.refuse(at, "token ids cannot be judged")
            found.append(Message("user", "", at))
        else:
            raise RequestError(f"each item of `{name}` must be a text", param=at)
    return found


def parse_reply(data: bytes) -> Reply:
    """Return the reply in ``data``, every choice of it, or raise UpstreamError(invalid)."""
    body = parse_object(data)
    parsed = []
    for position, item in enumerate(read_answers(body)):
        sofar = _ChoiceSoFar()
        sofar.add(item)
        parsed.append(sofar.choice(item_index(item, position)))
    return Reply(tuple(parsed), **heading(body), asides=read_asides(body, "choices"))


@dataclass(slots=True)
class _ChoiceSoFar:
    text: list[str] = field(default_factory=list)
    rest: Strands = field(default_factory=Strands)
    finished: bool = False

    def add(self, item: Mapping[str, Any]) -> None:
        if isinstance(item.get("text"), str):
            self.text.append(item["text"])
        for name, value in item.items():
            if name == "finish_reason":
                self.rest.once(value, "/finish_reason")
            elif name not in _READ or not isinstance(value, str if name == "text" else int):
                self.rest.weave({name: value}, "")
        self.finished = self.finished or item.get("finish_reason") is not None

    def choice(self, index: int) -> Choice:
        reading = Reading(trusted=True)
        text = "".join(self.text)
        texts = [text, *self.rest.texts(reading, text)] if text else self.rest.texts(reading, "")
        said = Message("assistant", "\n".join(texts), f"/choices/{index}")
        return Choice(index, said, tuple(reading.unjudged), tuple(reading.marks))


class CompletionStream(Hold):
    """A streamed text completion: it proposes no actions, so everything passes as it comes."""

    end = DONE

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[int, _ChoiceSoFar] = {}
        self._asides = Strands()
        self._heading: dict[str, Any] = {"id": "", "model": "", "created": 0}

    @property
    def acts(self) -> bool:
        """A text completion proposes nothing that a client would execute."""
        return False

    @property
    def complete(self) -> bool:
        """Whether every choice has its finish reason."""
        return bool(self._choices) and all(choice.finished for choice in self._choices.values())

    @property
    def open_choices(self) -> tuple[int, ...]:
        """Indices of the choices without a finish reason; the first one where none began."""
        return tuple(index for index, choice in sorted(self._choices.items()) if not choice.finished) or (0,)

    def parsed(self) -> Reply:
        """Return the reply so far."""
        choices = tuple(choice.choice(index) for index, choice in sorted(self._choices.items()))
        return Reply(choices, **self._heading, asides=tuple(self._asides.found()))

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
        body = parse_object(data)
        if body.get("error") is not None:
            raise UpstreamError("invalid", "the upstream broke off with an error")
        if not self._heading["id"]:
            self._heading = heading(body)
        self._asides.once({name: value for name, value in body.items() if name != "choices"}, "")
        for position, item in enumerate(read_answers(body) if body.get("choices") else []):
            self._choices.setdefault(item_index(item, position), _ChoiceSoFar()).add(item)


def refusal(notice: Notice) -> bytes:
    """Return a completion that ends with ``content_filter``."""
    return dumps(_body(notice, "content_filter") | {"usage": NO_USAGE})


def answer(notice: Notice) -> bytes:
    """Return a completion that ends with ``stop``."""
    return dumps(_body(notice, "stop") | {"usage": NO_USAGE})


def refusal_events(notice: Notice) -> list[bytes]:
    """Return the chunks of a refusal, up to and with ``[DONE]``; they may also end a stream that has begun."""
    return [write_event(dumps(_body(notice, "content_filter"))), DONE]


def answer_events(notice: Notice) -> list[bytes]:
    """Return the chunks of a normal answer, up to and with ``[DONE]``."""
    return [write_event(dumps(_body(notice, "stop"))), DONE]


def _body(notice: Notice, reason: str) -> dict[str, Any]:
    choices = [
        {"index": index, "text": notice.text, "logprobs": None, "finish_reason": reason} for index in notice.choices
    ]
    body: dict[str, Any] = {
        "id": notice.id or f"cmpl-{uuid4().hex}",
        "object": "text_completion",
        "created": notice.created or int(time.time()),
        "model": notice.model,
        "choices": choices,
    }
    return body | ({"governance": dict(notice.governance)} if notice.governance else {})
