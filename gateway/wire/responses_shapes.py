"""Answers of the gateway's own in the shape of the Responses API, whole and as events."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal
from uuid import uuid4

from gateway.wire.format import Notice, Problem
from gateway.wire.sse import write_named
from gateway.wire.strict import dumps

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
Item = dict[str, Any]

NO_USAGE: Final = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


def refusal(notice: Notice) -> bytes:
    """Return a response that is incomplete because of a content filter, with the text as a refusal."""
    item = _message(notice, "refusal", "incomplete")
    return dumps(envelope(notice, "incomplete", [item]))


def answer(notice: Notice) -> bytes:
    """Return a completed response with the text as the assistant's message."""
    return dumps(envelope(notice, "completed", [_message(notice, "output_text", "completed")]))


def waiting(notice: Notice, status: Literal["queued", "in_progress", "cancelled"]) -> bytes:
    """Return a background response that has no output yet; ``notice.id`` is where the client asks again."""
    return dumps(envelope(notice, status, []))


def failed(notice: Notice, problem: Problem) -> bytes:
    """Return a background response that ended with an error."""
    told = {"code": "server_error", "message": problem.message}
    return dumps(envelope(notice, "failed", []) | {"error": told})


def approval_request(notice: Notice, case_id: str, tool: str, arguments: str) -> bytes:
    """Return a completed response that proposes nothing but a person's approval, as a native approval item.

    A client's ``mcp_approval_response`` to it is not believed; it only tells the client's user what is waited for.
    """
    item = {
        "type": "mcp_approval_request",
        "id": f"mcpr_{case_id.replace('-', '')}",
        "server_label": "so8t",
        "name": tool,
        "arguments": arguments,
    }
    return dumps(envelope(notice, "completed", [item]))


def refusal_events(notice: Notice) -> list[bytes]:
    """Return a whole stream that is a refusal."""
    return ending(notice, "refusal", begun=False)


def answer_events(notice: Notice) -> list[bytes]:
    """Return a whole stream that is a normal answer."""
    return ending(notice, "output_text", begun=False)


def error_events(problem: Problem, sequence: int = 0) -> list[bytes]:
    """Return an error event; ``sequence`` is its number in the stream."""
    told = {"message": problem.message, "type": problem.kind, "param": problem.param, "code": problem.code}
    told |= dict(problem.extra)
    event = {
        "type": "error",
        "sequence_number": sequence,
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
        "error": told,
    }
    return [write_named("error", dumps(event))]


def ending(
    notice: Notice,
    kind: Literal["refusal", "output_text"],
    *,
    begun: bool,
    sequence: int = 0,
    before: Sequence[Item] = (),
) -> list[bytes]:
    """Return the events of one message and the response's end.

    ``begun`` tells that the client has the response's beginning, ``sequence`` is the next event's number and ``before``
    the items that it has.
    """
    notice = replace(notice, id=notice.id or _new_id(), created=notice.created or int(time.time()))  # of every event
    events: list[dict[str, Any]] = []
    if not begun:
        empty = envelope(notice, "in_progress", [])
        empty["usage"] = None
        events += [{"type": "response.created", "response": empty}, {"type": "response.in_progress", "response": empty}]
    status: Status = "incomplete" if kind == "refusal" else "completed"
    item = _message(notice, kind, status)
    (part,) = item["content"]
    where = {"item_id": item["id"], "output_index": len(before), "content_index": 0}
    blank = part | ({"refusal": ""} if kind == "refusal" else {"text": ""})
    added = item | {"status": "in_progress", "content": []}
    tokens: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    said = {"refusal": notice.text} if kind == "refusal" else {"text": notice.text}
    events += [
        {"type": "response.output_item.added", "output_index": len(before), "item": added},
        {"type": "response.content_part.added", **where, "part": blank},
        {"type": f"response.{kind}.delta", **where, "delta": notice.text, **tokens},
        {"type": f"response.{kind}.done", **where, **said, **tokens},
        {"type": "response.content_part.done", **where, "part": part},
        {"type": "response.output_item.done", "output_index": len(before), "item": item},
        {"type": f"response.{status}", "response": envelope(notice, status, [*before, item])},
    ]
    return [
        write_named(event["type"], dumps(event | {"sequence_number": sequence + index}))
        for index, event in enumerate(events)
    ]


def envelope(notice: Notice, status: Status, output: Sequence[Item]) -> dict[str, Any]:
    """Return a response object."""
    body: dict[str, Any] = {
        "id": notice.id or _new_id(),
        "object": "response",
        "created_at": notice.created or int(time.time()),
        "status": status,
        "background": status in ("queued", "cancelled"),
        "error": None,
        "incomplete_details": {"reason": "content_filter"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": notice.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": NO_USAGE,
    }
    return body | ({"governance": dict(notice.governance)} if notice.governance else {})


def _new_id() -> str:
    return f"resp_{uuid4().hex}"


def _message(notice: Notice, kind: str, status: Status) -> Item:
    part: Mapping[str, Any] = {"type": "refusal", "refusal": notice.text}
    if kind == "output_text":
        part = {"type": "output_text", "text": notice.text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "status": status, "content": [part]}
