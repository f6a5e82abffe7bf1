"""What clients see of each outcome."""

from typing import Any

import orjson
import pytest

from gateway import errors
from gateway.decision import Decision, Reason
from gateway.enforcement import (
    Answer,
    Heading,
    Manners,
    failure,
    failure_answer,
    stops,
    substitute,
    upstream_error,
)
from gateway.told import decision_headers, tell_stop
from gateway.verdict import Label, Stage
from gateway.wire.sse import EventParser


def decision(effect: Label = Label.REFUSE, *, message: str | None = None, enforced: bool = True) -> Decision:
    reasons = (Reason("model", effect),)
    return Decision("d-1", effect, "medical", None, reasons, "acme", "a" * 64, message=message, enforced=enforced)


def stop(decision: Decision, stage: Stage, manners: Manners, heading: Heading) -> Answer:
    return substitute(tell_stop(decision, stage, manners.language), manners, heading)


async def events(answer: Answer) -> list[Any]:
    assert not isinstance(answer.body, bytes)
    parser = EventParser()
    found = [event async for piece in answer.body for event in parser.feed(piece)]
    assert found.pop() == b"[DONE]"
    return [orjson.loads(event) for event in found]


def body(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


@pytest.mark.parametrize("effect", [Label.REFUSE, Label.ESCALATE])
def test_a_stop_is_a_content_filter_with_the_text_twice(effect: Label) -> None:
    answer = stop(decision(effect), "request", Manners(), Heading("m", False, (0, 1)))
    reply = body(answer)
    assert answer.status == 200
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    for choice in reply["choices"]:
        assert choice["finish_reason"] == "content_filter"
        assert choice["message"]["content"] == choice["message"]["refusal"] != ""
    assert reply["governance"] == {
        "decision": effect.value.lower(),
        "decision_id": "d-1",
        "domain": "medical",
        "policy": "acme",
        "revision": "a" * 64,
    }
    assert (b"x-so8t-decision", effect.value.lower().encode()) in answer.headers
    assert (b"x-so8t-decision-id", b"d-1") in answer.headers


async def test_a_stopped_stream_has_the_same_in_deltas() -> None:
    first, last = await events(stop(decision(), "request", Manners(), Heading("m", True)))
    assert first["object"] == "chat.completion.chunk"
    delta = first["choices"][0]["delta"]
    assert delta["content"] == delta["refusal"] != ""
    assert last["choices"][0]["finish_reason"] == "content_filter"
    assert last["governance"]["decision"] == "refuse"


@pytest.mark.parametrize("stream", [False, True])
def test_a_policy_may_prefer_an_error(stream: bool) -> None:
    answer = stop(decision(), "request", Manners(shape="error"), Heading("m", stream))
    assert answer.status == 400
    assert body(answer)["error"]["code"] == "content_filter"
    assert (b"x-should-retry", b"false") in answer.headers


def test_too_many_cases_are_told_as_that() -> None:
    text = body(stop(decision(Label.ESCALATE), "request", Manners(), Heading("m", False)))["choices"][0]["message"]
    assert "human's decision" in text["content"]
    assert "Too many cases" in text["content"]


def test_texts_follow_the_language() -> None:
    japanese = body(stop(decision(), "response", Manners("ja"), Heading("m", False)))["choices"][0]["message"][
        "content"
    ]
    assert "拒否" in japanese
    assert "d-1" in japanese


def test_the_rules_own_message_is_what_people_see() -> None:
    answer = stop(decision(message="Ask the office."), "request", Manners(), Heading("m", False))
    assert body(answer)["choices"][0]["message"]["content"].startswith("Ask the office.")


def test_monitoring_decides_and_does_not_stop() -> None:
    watched = decision(enforced=False)
    assert not stops(watched)
    assert (b"x-so8t-enforced", b"false") in decision_headers(watched)


CASES: list[tuple[Exception, int, str, tuple[tuple[bytes, bytes], ...]]] = [
    (errors.RequestError("x"), 400, "invalid_request", ()),
    (errors.AuthenticationError("x"), 401, "invalid_api_key", ()),
    (errors.NotFoundError("x", code="model_not_found"), 404, "model_not_found", ()),
    (errors.TooLargeError("x"), 413, "request_too_large", ()),
    (
        errors.JudgeUnavailable("timeout", "x"),
        503,
        "judge_unavailable",
        ((b"x-should-retry", b"true"), (b"retry-after", b"1")),
    ),
    (errors.JudgeUnavailable("failed", "x"), 503, "judge_unavailable", ((b"x-should-retry", b"false"),)),
    (errors.UpstreamError("unreachable", "x"), 502, "upstream_unreachable", ()),
    (errors.UpstreamError("interrupted", "x"), 502, "upstream_interrupted", ()),
    (errors.CaseNotFound("x"), 404, "case_not_found", ()),
    (errors.RulingError("x"), 400, "invalid_ruling", ()),
    (errors.NotReviewerError("owner", "x"), 403, "not_reviewer", ()),
    (errors.UnmetObligation("x", param="/stream"), 400, "obligation_unmet", ()),
    (errors.CaseGone("x"), 410, "case_gone", ()),
    (errors.CaseStateError("denied", "x"), 409, "case_state", ((b"x-should-retry", b"false"),)),
    (errors.DeliveryError("x"), 500, "internal_error", ()),
    (errors.DeliveryPostponed("timeout"), 500, "internal_error", ()),
    (errors.DeliveryRefused("x"), 500, "internal_error", ()),
    (errors.TooManyCases("d-1", 1), 429, "too_many_cases", ((b"x-should-retry", b"false"),)),
    (errors.AuditUnavailable("x"), 503, "audit_unavailable", ((b"x-should-retry", b"false"),)),
    (errors.PolicyError(("f:1:1: secret path",)), 500, "internal_error", ()),
    (errors.ReleaseError("secret path"), 500, "internal_error", ()),
    (errors.SettingsError("secret path"), 500, "internal_error", ()),
    (ValueError("secret path"), 500, "internal_error", ()),
]


@pytest.mark.parametrize(("error", "status", "code", "headers"), CASES)
def test_every_error_has_its_status_and_code(
    error: Exception, status: int, code: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    answer = failure_answer(error)
    assert answer.status == status
    assert body(answer)["error"]["code"] == code
    assert answer.headers == headers
    assert b"secret path" not in bytes(body(answer)["error"]["message"], "utf-8")


def test_no_error_is_forgotten() -> None:
    def leaves(kind: type[Exception]) -> set[type[Exception]]:
        return {kind} | {leaf for child in kind.__subclasses__() for leaf in leaves(child)}

    named = {value for value in vars(errors).values() if isinstance(value, type)}
    assert (leaves(errors.GatewayError) & named) - {type(case[0]) for case in CASES} == {errors.GatewayError}


def test_an_upstreams_error_keeps_its_status_and_loses_its_secrets() -> None:
    raw = orjson.dumps({"error": {"message": "bad key sk-abcdefghijk", "code": "x", "type": "t", "inner": {"a": 1}}})
    answer = upstream_error(429, raw, "7", ())
    assert answer.status == 429
    assert body(answer)["error"] == {"message": "bad key [removed]", "type": "t", "param": None, "code": "x"}
    assert (b"retry-after", b"7") in answer.headers


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b'{"error":null}', b'{"error":[1]}', b'{"error":5}', b""])
def test_an_upstreams_nonsense_becomes_an_error_object(raw: bytes) -> None:
    answer = upstream_error(500, raw, "3600", ())
    assert body(answer)["error"]["code"] == "upstream_500"
    assert answer.headers == ()


def test_the_upstreams_refusal_of_our_key_is_told_as_that() -> None:
    assert "the gateway's own key" in body(upstream_error(401, b"{}", None, ()))["error"]["message"]


def test_a_failure_says_nothing_of_an_unknown_cause() -> None:
    assert "secret" not in failure(KeyError("secret")).message
