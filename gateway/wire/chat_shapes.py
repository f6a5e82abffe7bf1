"""Answers of the gateway's own in the shape of a chat completion, and errors in the shape of the OpenAI API."""

import time
from typing import Any
from uuid import uuid4

from gateway.wire.format import Notice, Problem
from gateway.wire.sse import DONE, write_event
from gateway.wire.strict import dumps

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def refusal(notice: Notice) -> bytes:
    """Return a completion that ends with ``content_filter``; the text stands in ``content`` and in ``refusal``."""
    return _completion(notice, {"content": notice.text, "refusal": notice.text}, "content_filter")


def answer(notice: Notice) -> bytes:
    """Return a completion that ends with ``stop``."""
    return _completion(notice, {"content": notice.text, "refusal": None}, "stop")


def refusal_events(notice: Notice) -> list[bytes]:
    """Return the chunks of a refusal, up to and with ``[DONE]``; they may also end a stream that has begun."""
    return _chunks(notice, {"content": notice.text, "refusal": notice.text}, "content_filter")


def answer_events(notice: Notice) -> list[bytes]:
    """Return the chunks of a normal answer, up to and with ``[DONE]``."""
    return _chunks(notice, {"content": notice.text}, "stop")


def error(problem: Problem) -> bytes:
    """Return an error in the shape of the OpenAI API."""
    told = {"message": problem.message, "type": problem.kind, "param": problem.param, "code": problem.code}
    return dumps({"error": told | dict(problem.extra)})


def error_events(problem: Problem) -> list[bytes]:
    """Return an error event and the end."""
    return [write_event(error(problem)), DONE]


def _completion(notice: Notice, message: dict[str, Any], reason: str) -> bytes:
    told = {"role": "assistant", **message}
    choices = [{"index": index, "message": told, "logprobs": None, "finish_reason": reason} for index in notice.choices]
    body = {**_envelope(notice, "chat.completion"), "choices": choices, "usage": NO_USAGE}
    return dumps(body | _governance(notice))


def _chunks(notice: Notice, delta: dict[str, Any], reason: str) -> list[bytes]:
    envelope = _envelope(notice, "chat.completion.chunk")
    events: list[dict[str, Any]] = []
    for index in notice.choices:
        told = {"index": index, "delta": {"role": "assistant", **delta}, "logprobs": None, "finish_reason": None}
        events.append({**envelope, "choices": [told]})
    ends: list[dict[str, Any]] = [
        {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason} for index in notice.choices
    ]
    events.append({**envelope, "choices": ends} | _governance(notice))
    return [*(write_event(dumps(event)) for event in events), DONE]


def _governance(notice: Notice) -> dict[str, Any]:
    return {"governance": dict(notice.governance)} if notice.governance else {}


def _envelope(notice: Notice, kind: str) -> dict[str, Any]:
    return {
        "id": notice.id or f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": notice.created or int(time.time()),
        "model": notice.model,
    }
