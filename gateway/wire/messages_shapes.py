"""Answers of the gateway's own in the shape of the Messages API, whole and as events, and its errors."""

from collections.abc import Sequence
from typing import Any, Final, Literal
from uuid import uuid4

from gateway.wire.format import Notice, Problem
from gateway.wire.sse import write_named
from gateway.wire.strict import dumps

NO_USAGE: Final = {"input_tokens": 0, "output_tokens": 0}
_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
StopReason = Literal["refusal", "end_turn"]


def refusal(notice: Notice) -> bytes:
    """Return a message whose stop reason is ``refusal``."""
    return _whole(notice, "refusal")


def answer(notice: Notice) -> bytes:
    """Return a message that ends its turn."""
    return _whole(notice, "end_turn")


def refusal_events(notice: Notice) -> list[bytes]:
    """Return a whole stream that is a refusal."""
    return ending(notice, "refusal", begun=False)


def answer_events(notice: Notice) -> list[bytes]:
    """Return a whole stream that is a normal answer."""
    return ending(notice, "end_turn", begun=False)


def error(problem: Problem) -> bytes:
    """Return an error in the shape of the Messages API."""
    kind = _KINDS.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    told = {"type": kind, "message": problem.message, "code": problem.code, "param": problem.param}
    return dumps({"type": "error", "error": told | dict(problem.extra)})


def error_events(problem: Problem) -> list[bytes]:
    """Return an error event."""
    return [write_named("error", error(problem))]


def ending(
    notice: Notice, reason: StopReason, *, begun: bool, index: int = 0, open_blocks: Sequence[int] = ()
) -> list[bytes]:
    """Return the events of one text block and the message's end.

    ``begun`` tells that the client has the message's beginning, ``index`` is the next block's and ``open_blocks`` are
    those that have no end yet.
    """
    events: list[dict[str, Any]] = []
    if not begun:
        events.append({"type": "message_start", "message": _message(notice) | {"content": []}})
    events += [{"type": "content_block_stop", "index": number} for number in open_blocks]
    delta = {"stop_reason": reason, "stop_sequence": None, "stop_details": _details(notice, reason)}
    events += [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": notice.text}},
        {"type": "content_block_stop", "index": index},
        {"type": "message_delta", "delta": delta, "usage": NO_USAGE} | _governance(notice),
        {"type": "message_stop"},
    ]
    return [write_named(event["type"], dumps(event)) for event in events]


def _whole(notice: Notice, reason: StopReason) -> bytes:
    body = _message(notice) | {
        "content": [{"type": "text", "text": notice.text}],
        "stop_reason": reason,
        "stop_details": _details(notice, reason),
    }
    return dumps(body | _governance(notice))


def _message(notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.id or f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": notice.model,
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": NO_USAGE,
    }


def _details(notice: Notice, reason: StopReason) -> dict[str, Any] | None:
    return {"type": "refusal", "category": None, "explanation": notice.text} if reason == "refusal" else None


def _governance(notice: Notice) -> dict[str, Any]:
    return {"governance": dict(notice.governance)} if notice.governance else {}
