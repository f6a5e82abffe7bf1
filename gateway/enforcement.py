"""What the client sees: every shape of an allowed, refused, escalated or failed request, whole or streamed."""

import re
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

import orjson

from gateway.decision import Decision
from gateway.errors import AuditUnavailable, GatewayError, JudgeUnavailable, RequestError, UpstreamError
from gateway.verdict import Label, Stage
from gateway.wire.sse import DONE, write_event

Language = Literal["en", "ja"]
Shape = Literal["content_filter", "error"]
Header = tuple[bytes, bytes]

JSON_TYPE: Final = b"application/json"
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"

TEXTS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "REFUSE:request": "This request was refused under your organisation's policy{domain}.",
        "REFUSE:response": "The action that the model proposed was refused under your organisation's policy{domain}.",
        "ESCALATE:request": "This request needs a human's decision under your organisation's policy{domain}.",
        "ESCALATE:response": "The action that the model proposed needs a human's decision under your organisation's "
        "policy{domain}.",
        "pending:request": "This version of the gateway cannot yet collect that decision, so nothing was forwarded.",
        "pending:response": "This version of the gateway cannot yet collect that decision, so nothing was released.",
        "domain": " (domain: {domain})",
        "reference": "Reference: {id}",
        "space": " ",
    },
    "ja": {
        "REFUSE:request": "このリクエストは、組織のポリシーにより拒否されました{domain}。",
        "REFUSE:response": "モデルが提案した操作は、組織のポリシーにより拒否されました{domain}。",
        "ESCALATE:request": "このリクエストには、組織のポリシーにより人による判断が必要です{domain}。",
        "ESCALATE:response": "モデルが提案した操作には、組織のポリシーにより人による判断が必要です{domain}。",
        "pending:request": "この版のゲートウェイではまだその判断を受け付けられないため、何も転送していません。",
        "pending:response": "この版のゲートウェイではまだその判断を受け付けられないため、何も引き渡していません。",
        "domain": "(分野: {domain})",
        "reference": "照会番号: {id}",
        "space": "",
    },
}


@dataclass(frozen=True, slots=True)
class Manners:
    """How an organisation wants its stops told."""

    language: Language = "en"
    shape: Shape = "content_filter"


@dataclass(frozen=True, slots=True)
class Heading:
    """What a substitute reply repeats of the request or of the reply that it replaces."""

    model: str
    stream: bool
    choices: tuple[int, ...] = (0,)
    id: str = ""
    created: int = 0


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


def decision_headers(decision: Decision) -> tuple[Header, ...]:
    """Return the headers that tell a client what was decided, and under which id the log has it."""
    headers = (
        (b"x-so8t-decision", decision.effect.value.lower().encode()),
        (b"x-so8t-decision-id", decision.id.encode()),
    )
    return headers if decision.enforced else (*headers, (b"x-so8t-enforced", b"false"))


def notice(decision: Decision, stage: Stage, language: Language) -> str:
    """Return the text of a stop: the rule's own message where a rule decided, else what happened, and the id."""
    texts = TEXTS[language]
    domain = texts["domain"].format(domain=decision.domain) if decision.domain else ""
    sentences = [decision.message or texts[f"{decision.effect.value}:{stage}"].format(domain=domain)]
    if decision.effect is Label.ESCALATE:
        if decision.message:
            sentences.append(texts[f"ESCALATE:{stage}"].format(domain=domain))
        sentences.append(texts[f"pending:{stage}"])
    return texts["space"].join(sentences) + "\n" + texts["reference"].format(id=decision.id)


def stop(decision: Decision, stage: Stage, manners: Manners, heading: Heading) -> Answer:
    """Return the answer that stands in for a reply that ``decision`` stops."""
    headers = decision_headers(decision)
    text = notice(decision, stage, manners.language)
    if manners.shape == "error":
        error = error_object(text, "invalid_request_error", "content_filter", governance=governance(decision))
        return Answer(400, error, (*headers, (b"x-should-retry", b"false")))
    if heading.stream:
        return Answer(200, _each(stop_events(decision, stage, manners, heading)), headers, STREAM_TYPE)
    message = {"role": "assistant", "content": text, "refusal": text}
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "content_filter"}
        for index in heading.choices
    ]
    body = {
        **_envelope(heading, "chat.completion"),
        "choices": choices,
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "governance": governance(decision),
    }
    return Answer(200, orjson.dumps(body), headers)


def stop_events(decision: Decision, stage: Stage, manners: Manners, heading: Heading) -> list[bytes]:
    """Return the events that end a stream which ``decision`` stops, up to and with ``[DONE]``.

    Once a stream has begun its status cannot change, so the shape ``error`` becomes an error event.
    """
    text = notice(decision, stage, manners.language)
    if manners.shape == "error":
        error = error_object(text, "invalid_request_error", "content_filter", governance=governance(decision))
        return [write_event(error), DONE]
    envelope = _envelope(heading, "chat.completion.chunk")
    events = []
    for index in heading.choices:
        delta = {"role": "assistant", "content": text, "refusal": text}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        events.append({**envelope, "choices": [choice]})
    ends: list[dict[str, Any]] = [
        {"index": index, "delta": {}, "logprobs": None, "finish_reason": "content_filter"} for index in heading.choices
    ]
    events.append({**envelope, "choices": ends, "governance": governance(decision)})
    return [*(write_event(orjson.dumps(event)) for event in events), DONE]


def governance(decision: Decision) -> dict[str, Any]:
    """Return the object that tells a program what was decided."""
    return {
        "decision": decision.effect.value.lower(),
        "decision_id": decision.id,
        "domain": decision.domain,
        "policy": decision.policy,
        "revision": decision.revision,
    }


def _envelope(heading: Heading, kind: str) -> dict[str, Any]:
    return {
        "id": heading.id or f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": heading.created or int(time.time()),
        "model": heading.model,
    }


async def _each(events: Iterable[bytes]) -> AsyncGenerator[bytes]:
    yield b"".join(events)


def error_object(message: str, kind: str, code: str | None, param: str | None = None, **extra: object) -> bytes:
    """Return an error in the shape of the OpenAI API."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return orjson.dumps({"error": error | extra})


@dataclass(frozen=True, slots=True)
class Failure:
    """How an error looks to a client."""

    status: int
    code: str
    message: str
    kind: str = "server_error"
    param: str | None = None
    headers: tuple[Header, ...] = ()

    def object(self) -> bytes:
        """Return it in the shape of the OpenAI API."""
        return error_object(self.message, self.kind, self.code, self.param)


_RETRY: Final = (b"x-should-retry", b"true")
_NO_RETRY: Final = (b"x-should-retry", b"false")


def failure(error: Exception) -> Failure:
    """Return the client's view of ``error``; what is not a GatewayError says nothing about its cause."""
    match error:
        case RequestError():
            return Failure(error.status, error.code, error.message, "invalid_request_error", error.param)
        case JudgeUnavailable():
            retry = (_NO_RETRY,) if error.reason == "failed" else (_RETRY, (b"retry-after", b"1"))
            message = f"no verdict ({error.reason}): nothing was forwarded or released"
            return Failure(503, "judge_unavailable", message, headers=retry)
        case AuditUnavailable():
            message = "the audit log cannot be written: nothing was forwarded or released"
            return Failure(503, "audit_unavailable", message, headers=(_NO_RETRY,))
        case UpstreamError():
            return Failure(502, f"upstream_{error.reason}", _clean(str(error)))
        case GatewayError():
            return Failure(500, "internal_error", "the gateway is wrongly configured")
        case _:
            return Failure(500, "internal_error", "the gateway failed; the operator's log says why")


def failure_answer(error: Exception, headers: tuple[Header, ...] = ()) -> Answer:
    """Return ``error`` as an answer, with ``headers`` beside its own."""
    told = failure(error)
    return Answer(told.status, told.object(), (*headers, *told.headers))


_SECRET: Final = re.compile(r"(?i)\b(?:sk|pk|rk)-[\w*-]{6,}|\bbearer\s+\S+")
_MAX_TEXT: Final = 1000
_RETRY_AFTER: Final = re.compile(r"[0-9]{1,2}")


def upstream_error(status: int, body: bytes, retry_after: str | None, headers: tuple[Header, ...]) -> Answer:
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
    return Answer(status, error_object(told, kind, code, _clean(param) if param else None), headers)


def _clean(text: str) -> str:
    return _SECRET.sub("[removed]", text)[:_MAX_TEXT]
