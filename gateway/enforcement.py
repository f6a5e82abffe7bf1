"""What the client sees instead of a reply: a refusal, a case or a failure, whole or streamed, in its own format."""

import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from gateway.decision import Decision
from gateway.errors import (
    AuditUnavailable,
    CaseStateError,
    GatewayError,
    JudgeUnavailable,
    RequestError,
    TooManyCases,
    UpstreamError,
)
from gateway.escalation.case import Case
from gateway.texts import Language
from gateway.told import POLL_AFTER_S, Header, Told, case_object
from gateway.verdict import Label
from gateway.wire.format import HeldStream, Notice, Problem, WireFormat
from gateway.wire.routes import CHAT

Shape = Literal["content_filter", "error"]

JSON_TYPE: Final = b"application/json"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
_RETRY: Final = (b"x-should-retry", b"true")
_NO_RETRY: Final = (b"x-should-retry", b"false")


@dataclass(frozen=True, slots=True)
class Manners:
    """How an organisation wants its stops told."""

    language: Language = "en"
    shape: Shape = "content_filter"


@dataclass(frozen=True, slots=True)
class Heading:
    """What a substitute reply repeats of the request or of the reply that it replaces.

    ``begun`` is the streamed reply whose beginning the client may have, as far as it was passed on.
    """

    model: str
    stream: bool
    choices: tuple[int, ...] = (0,)
    id: str = ""
    created: int = 0
    format: WireFormat = CHAT
    begun: HeldStream | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a status, headers, and the body as bytes or as a stream."""

    status: int
    body: bytes | AsyncGenerator[bytes]
    headers: tuple[Header, ...] = ()
    media_type: bytes = JSON_TYPE


def stops(decision: Decision) -> bool:
    """Tell whether ``decision`` keeps what it is about from passing."""
    return decision.enforced and decision.effect is not Label.ALLOW


def substitute(told: Told, manners: Manners, heading: Heading) -> Answer:
    """Return the answer that stands in for a reply which does not pass: an error where the format has no other."""
    body = b"" if manners.shape == "error" else heading.format.refusal(_notice(told, heading))
    if not body:
        return _answer_with(_filtered(told), heading.format, (*told.headers, _NO_RETRY))
    if heading.stream:
        return Answer(200, _each(substitute_events(told, manners, heading)), told.headers, STREAM_TYPE)
    return Answer(200, body, told.headers)


def substitute_events(told: Told, manners: Manners, heading: Heading) -> list[bytes]:
    """Return the events that end a stream whose rest does not pass, up to and with its end marker.

    Once a stream has begun its status cannot change, so the shape ``error`` becomes an error event.
    """
    if manners.shape == "error":
        return _error_events(_filtered(told), heading)
    notice = _notice(told, heading)
    return heading.format.refusal_events(notice) if heading.begun is None else heading.begun.refusal(notice)


def human_answer(told: Told, heading: Heading) -> Answer:
    """Return a person's answer as a normal reply, or as an error where no reply of the format has room for a text."""
    notice = _notice(told, heading)
    if heading.stream:
        events = heading.format.answer_events(notice) if heading.begun is None else heading.begun.answer(notice)
        return Answer(200, _each(events), told.headers, STREAM_TYPE)
    if body := heading.format.answer(notice):
        return Answer(200, body, told.headers)
    problem = Problem(400, told.text, "invalid_request_error", "answered", extra=_governed(told))
    return _answer_with(problem, heading.format, (*told.headers, _NO_RETRY))


def conflict(told: Told, case: Case, wire: WireFormat) -> Answer:
    """Return the 409 about a case: to be sent again while it waits, not to be retried where only people can help."""
    code = "escalation_pending" if case.live else case.status
    problem = Problem(409, told.text, "escalation", code, extra={"case": case_object(case), **_governed(told)})
    retry = (_RETRY, (b"retry-after", b"%d" % POLL_AFTER_S)) if case.live else (_NO_RETRY,)
    return _answer_with(problem, wire, (*told.headers, *retry))


def _filtered(told: Told) -> Problem:
    return Problem(400, told.text, "invalid_request_error", "content_filter", extra=_governed(told))


def _governed(told: Told) -> Mapping[str, Any]:
    return {"governance": told.governance}


def _answer_with(problem: Problem, wire: WireFormat, headers: tuple[Header, ...]) -> Answer:
    return Answer(problem.status, wire.error(problem), headers)


def _error_events(problem: Problem, heading: Heading) -> list[bytes]:
    return heading.format.error_events(problem) if heading.begun is None else heading.begun.error(problem)


def _notice(told: Told, heading: Heading) -> Notice:
    return Notice(told.text, heading.model, heading.choices, heading.id, heading.created, told.governance)


async def _each(events: Iterable[bytes]) -> AsyncGenerator[bytes]:
    yield b"".join(events)


@dataclass(frozen=True, slots=True)
class Failure:
    """How an error looks to a client."""

    status: int
    code: str
    message: str
    kind: str = "server_error"
    param: str | None = None
    headers: tuple[Header, ...] = ()

    def object(self, wire: WireFormat = CHAT) -> bytes:
        """Return it in the shape of ``wire``."""
        return wire.error(Problem(self.status, self.message, self.kind, self.code, self.param))


def failure(error: Exception) -> Failure:
    """Return the client's view of ``error``; what is not a GatewayError says nothing about its cause."""
    match error:
        case CaseStateError():
            kind = "invalid_request_error"
            return Failure(error.status, error.code, error.message, kind, error.param, (_NO_RETRY,))
        case RequestError():
            return Failure(error.status, error.code, error.message, "invalid_request_error", error.param)
        case JudgeUnavailable():
            retry = (_NO_RETRY,) if error.reason == "failed" else (_RETRY, (b"retry-after", b"1"))
            message = f"no verdict ({error.reason}): nothing was forwarded or released"
            return Failure(503, "judge_unavailable", message, headers=retry)
        case TooManyCases():
            return Failure(429, "too_many_cases", str(error), headers=(_NO_RETRY,))
        case AuditUnavailable():
            message = "the audit log cannot be written: nothing was forwarded or released"
            return Failure(503, "audit_unavailable", message, headers=(_NO_RETRY,))
        case UpstreamError():
            return Failure(502, f"upstream_{error.reason}", _clean(str(error)))
        case GatewayError():
            return Failure(500, "internal_error", "the gateway is wrongly configured")
        case _:
            return Failure(500, "internal_error", "the gateway failed; the operator's log says why")


def failure_answer(error: Exception, headers: tuple[Header, ...] = (), wire: WireFormat = CHAT) -> Answer:
    """Return ``error`` as an answer, with ``headers`` beside its own."""
    told = failure(error)
    return Answer(told.status, told.object(wire), (*headers, *told.headers))


def in_stream(answer: Answer, heading: Heading) -> bytes:
    """Return an error as the event after which a stream breaks off, without an end marker."""
    return _error_events(problem_in(answer), heading)[0]


def in_completion(answer: Answer, heading: Heading) -> bytes:
    """Return an answer as the body of a response whose status 200 is out already: an error in a refusal's shape."""
    assert isinstance(answer.body, bytes)  # noqa: S101 - only plain requests wait so
    if answer.status == 200:
        return answer.body
    problem = problem_in(answer)
    governance = problem.extra.get("governance") or {"decision": "escalate"}
    told = Told(problem.message, governance | {"code": problem.code}, (), "")
    return heading.format.refusal(_notice(told, heading))


def problem_in(answer: Answer) -> Problem:
    """Return what the body of an answer with an error says, in whichever of our shapes."""
    assert isinstance(answer.body, bytes)  # noqa: S101 - errors are whole
    error = dict(orjson.loads(answer.body)["error"])
    message, kind, code, param = (error.pop(name, None) for name in ("message", "type", "code", "param"))
    return Problem(answer.status, message, kind, code, param, error)


_SECRET: Final = re.compile(r"(?i)\b(?:sk|pk|rk)-[\w*-]{6,}|\bbearer\s+\S+")
_MAX_TEXT: Final = 1000
_RETRY_AFTER: Final = re.compile(r"[0-9]{1,2}")


def upstream_error(
    status: int, body: bytes, retry_after: str | None, headers: tuple[Header, ...], wire: WireFormat = CHAT
) -> Answer:
    """Return an upstream's error under its own status, in our shape, without anything that looks like a secret."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if not isinstance(error, dict):
        error = {"message": error}
    found = {key: value for key, value in error.items() if isinstance(value, str)}
    told = _clean(found.get("message") or f"the upstream answered with status {status}")
    kind = _clean(found.get("type") or ("invalid_request_error" if status < 500 else "server_error"))
    code = _clean(found.get("code") or f"upstream_{status}")
    if status in (401, 403):
        told = f"the upstream refused the gateway's own key: {told}"
    if retry_after is not None and _RETRY_AFTER.fullmatch(retry_after):
        headers = (*headers, (b"retry-after", retry_after.encode()))
    param = found.get("param")
    return _answer_with(Problem(status, told, kind, code, _clean(param) if param else None), wire, headers)


def _clean(text: str) -> str:
    return _SECRET.sub("[removed]", text)[:_MAX_TEXT]
