"""The decision: each gate gives its effect, the most severe wins, and all that fired are told."""

import math

import pytest

from gateway.decision import Reason
from gateway.parts import ToolCall, Unjudged
from gateway.policy import Facts, decide
from gateway.verdict import Label, Reading, Scores, Stage, Thresholds, Verdict
from tests.gateway.policy.examples import SCORES, call, effective, verdict

ALLOW, ESCALATE, REFUSE = Label.ALLOW, Label.ESCALATE, Label.REFUSE
TEXT = """
domains:
  medical: {route: desk, message: a doctor decides}
  legal: {effect: refuse, message: no legal advice}
  hr: {approvals: 3}
routes: {desk: {due: 30m, on_expired: refuse}, office: {due: 1h, on_expired: refuse}}
tools:
  send_email:
    arguments:
      type: object
      required: [to]
      additionalProperties: false
      properties: {to: {type: string, pattern: "^[^@]+@acme$"}, body: {type: string}}
    otherwise: {effect: escalate, domain: pii, route: office, message: mail leaves}
  pay: {arguments: {properties: {amount: {maximum: 10}}}, message: too much}
  "drop_*": {effect: refuse, message: nothing is dropped}
  read: {}
  list: {effect: escalate, domain: hr}
"""
POLICY = effective(TEXT)


def fire(
    *calls: ToolCall, stage: Stage = "response", of: Verdict | None = None, text: str = ""
) -> tuple[Label, list[str]]:
    decision = decide(effective(text) if text else POLICY, Facts(stage, of or verdict(), calls), decision_id="d")
    return decision.effect, [reason.id for reason in decision.reasons if reason.effect is not ALLOW]


def test_an_allow_is_whole() -> None:
    decision = decide(POLICY, Facts("request", verdict()), decision_id="d-1")
    assert (decision.id, decision.effect, decision.domain, decision.route) == ("d-1", ALLOW, None, None)
    assert decision.reasons == (Reason("model", ALLOW),)
    assert (decision.policy, decision.revision, decision.message, decision.errors) == (
        "acme",
        POLICY.revision,
        None,
        (),
    )
    assert decision.enforced


@pytest.mark.parametrize(
    ("label", "domain", "effect", "told", "route", "message", "reasons"),
    [
        (ESCALATE, "medical", ESCALATE, "medical", "desk", "a doctor decides", ["model"]),
        (ESCALATE, "pii", ESCALATE, "pii", "review", None, ["model"]),
        (ESCALATE, "legal", REFUSE, "legal", None, "no legal advice", ["model", "domain:legal"]),
        (ESCALATE, "unheard_of", ESCALATE, "unheard_of", "review", None, ["model"]),
        (REFUSE, "weapons", REFUSE, "weapons", None, None, ["model"]),
        (REFUSE, "medical", REFUSE, "medical", None, "a doctor decides", ["model"]),
        (REFUSE, "other", REFUSE, "other", None, None, ["model"]),
    ],
)
def test_a_stop_of_the_model_goes_by_its_domain(
    label: Label, domain: str, effect: Label, told: str, route: str | None, message: str | None, reasons: list[str]
) -> None:
    decision = decide(POLICY, Facts("request", verdict(label, domain=domain)), decision_id="d")
    assert (decision.effect, decision.domain, decision.route, decision.message) == (effect, told, route, message)
    assert [reason.id for reason in decision.reasons] == reasons


@pytest.mark.parametrize(
    ("scores", "release", "effect"),
    [
        (Scores(0.70, 0.20, 0.10), None, ALLOW),
        (Scores(0.70, 0.20, 0.10), Thresholds(0.6, 0.3), ESCALATE),
        (Scores(0.70, 0.20, 0.10), Thresholds(0.2, 0.9), REFUSE),
        (Scores(0.64, 0.18, 0.18), Thresholds(0.9, 0.9), ESCALATE),
        (Scores(0.60, 0.40, 0.00), Thresholds(0.9, 0.9), REFUSE),
    ],
)
def test_the_lower_threshold_holds(scores: Scores, release: Thresholds | None, effect: Label) -> None:
    policy = effective("safety: {thresholds: {refuse: 0.4, escalate: 0.35}}")
    facts = Facts("request", verdict(scores=scores), thresholds=release)
    assert decide(policy, facts, decision_id="d").effect is effect


def test_a_label_of_the_release_is_never_lowered() -> None:
    policy = effective("safety: {thresholds: {refuse: 1, escalate: 1}}")
    for label in Label:
        assert decide(policy, Facts("request", verdict(label)), decision_id="d").effect is label


def test_every_reading_counts() -> None:
    policy = effective("safety: {thresholds: {escalate: 0.4}}\ndomains: {legal: {effect: refuse}, hr: {approvals: 2}}")
    mild = Scores(0.58, 0.02, 0.40)
    one = Reading("/messages/1", mild, {"pii": 0.5, "hr": 0.9, "weapons": 0.95, "unknown": 1.0})
    decision = decide(policy, Facts("request", verdict(readings=(one,))), decision_id="d")
    assert (decision.effect, decision.domain, decision.route) == (ESCALATE, "hr", "review")
    assert decision.reasons == (Reason("model", ESCALATE),)
    other = Reading("/messages/2", mild, {"legal": 0.9})
    of = verdict(ESCALATE, readings=(one, other))
    decision = decide(policy, Facts("request", of), decision_id="d")
    assert (decision.effect, decision.domain) == (REFUSE, "legal")
    assert [reason.id for reason in decision.reasons] == ["model", "domain:legal"]
    none = decide(policy, Facts("request", verdict(readings=(Reading("/x", mild, {}),))), decision_id="d")
    assert (none.effect, none.domain, none.route) == (ESCALATE, None, "review")


@pytest.mark.parametrize(
    "scores", [Scores(math.nan, 0, 0), Scores(0, 0, 0), Scores(1.5, -0.5, 0), Scores(1, 1, 1), Scores(math.inf, 0, 0)]
)
def test_scores_that_are_no_probabilities_are_a_failure(scores: Scores) -> None:
    for of in (verdict(scores=scores), verdict(readings=(Reading("/x", scores, {}),))):
        decision = decide(POLICY, Facts("request", of), decision_id="d")
        assert (decision.effect, decision.errors) == (ESCALATE, ("model: ValueError",))
        assert [reason.id for reason in decision.reasons] == ["error:model"]
        assert decide(effective("failures: {unjudged: refuse}"), Facts("request", of), decision_id="d").effect is REFUSE


def test_what_is_unjudged_has_the_effect_of_failures() -> None:
    of = verdict(unjudged=(Unjudged("/messages/0/content/1", "an image"),))
    assert fire(of=of) == (ESCALATE, ["unjudged"])
    assert fire(of=of, text="failures: {unjudged: refuse}") == (REFUSE, ["unjudged"])
    both = verdict(ESCALATE, unjudged=(Unjudged("/x", "an image"),))
    decision = decide(POLICY, Facts("request", both), decision_id="d")
    assert [reason.id for reason in decision.reasons] == ["model", "unjudged"]
    assert (decision.domain, decision.route) == ("medical", "desk")


@pytest.mark.parametrize(
    ("name", "arguments", "effect", "reasons"),
    [
        ("send_email", '{"to": "a@acme"}', ALLOW, []),
        ("send_email", '{"to": "a@acme\\n"}', ESCALATE, ["tool:send_email:arguments"]),
        ("send_email", '{"to": "a@evil"}', ESCALATE, ["tool:send_email:arguments"]),
        ("send_email", "{}", ESCALATE, ["tool:send_email:arguments"]),
        ("send_email", "", ESCALATE, ["tool:send_email:arguments"]),
        ("send_email", '{"to": "a@acme", "to": "a@evil"}', REFUSE, ["tool:send_email:arguments"]),
        ("send_email", '{"to": NaN}', REFUSE, ["tool:send_email:arguments"]),
        ("send_email", '["a@acme"]', REFUSE, ["tool:send_email:arguments"]),
        ("send_email", "to: a@acme", REFUSE, ["tool:send_email:arguments"]),
        ("pay", '{"amount": 11}', REFUSE, ["tool:pay:arguments"]),
        ("pay", '{"amount": 10}', ALLOW, []),
        ("drop_table", "{}", REFUSE, ["tool:drop_*"]),
        ("drop_table", "[]", REFUSE, ["tool:drop_*", "tool:drop_*:arguments"]),
        ("read", '{"x": 1}', ALLOW, []),
        ("Drop_table", "{}", ALLOW, []),
        ("anything\nelse", "{}", ALLOW, []),
        ("anything", "nonsense", REFUSE, ["tool:default:arguments"]),
    ],
)
def test_a_proposed_call_is_held_to_its_contract(name: str, arguments: str, effect: Label, reasons: list[str]) -> None:
    assert fire(call(name, arguments)) == (effect, reasons)
    assert fire(call(name, arguments), stage="request") == (ALLOW, [])


def test_tools_that_no_contract_names() -> None:
    assert fire(call("x"), text="tools: {default: escalate, y: {}}") == (ESCALATE, ["tool:default"])
    assert fire(call("y"), text="tools: {default: refuse, y: {}}") == (ALLOW, [])
    assert fire(call("x"), text="tools: {default: refuse, y: {}}") == (REFUSE, ["tool:default"])


def test_the_most_severe_wins_and_all_are_told_in_order() -> None:
    calls = (call("list"), call("send_email"), call("drop_table"), call("drop_table"), call("read"))
    decision = decide(POLICY, Facts("response", verdict(ESCALATE), calls), decision_id="d")
    assert [(reason.id, reason.effect) for reason in decision.reasons] == [
        ("model", ESCALATE),
        ("tool:list", ESCALATE),
        ("tool:send_email:arguments", ESCALATE),
        ("tool:drop_*", REFUSE),
    ]
    assert (decision.effect, decision.domain, decision.route) == (REFUSE, None, None)
    assert decision.message == "nothing is dropped"


def test_among_equals_more_approvals_then_a_rule_before_the_model() -> None:
    def decided(*calls: ToolCall) -> tuple[str | None, str | None, str | None]:
        decision = decide(POLICY, Facts("response", verdict(ESCALATE), calls), decision_id="d")
        return decision.domain, decision.route, decision.message

    assert decided() == ("medical", "desk", "a doctor decides")
    assert decided(call("send_email")) == ("pii", "office", "mail leaves")
    assert decided(call("send_email"), call("list")) == ("hr", "review", None)


def test_a_gate_that_fails_inside_stops_with_its_name() -> None:
    long = '{"to": "' + "a" * 5000 + '@acme"}'
    decision = decide(POLICY, Facts("response", verdict(), (call("send_email", long),)), decision_id="d")
    assert decision.effect is ESCALATE
    assert [reason.id for reason in decision.reasons] == ["model", "error:tool:send_email"]
    assert decision.errors == (
        "tool:send_email: a text of more than 4096 characters cannot be matched with this pattern",
    )
    both = "tools: {x: {effect: refuse, arguments: {properties: {to: {pattern: a}}}}}"
    assert fire(call("x", long), text=both) == (REFUSE, ["tool:x", "error:tool:x"])
    calls = (call("send_email", long), call("drop_table"))
    assert decide(POLICY, Facts("response", verdict(), calls), decision_id="d").effect is REFUSE
    huge = '{"amount": 1' + "0" * 400 + "}"
    assert fire(call("pay", huge), text="tools: {pay: {arguments: {properties: {amount: {multipleOf: 0.5}}}}}")[0]


def test_the_base_speaks_beside_the_policy() -> None:
    base = """
version: 1
name: strict
language: en
mode: enforce
permits: {monitor: true}
domains: {violence: {effect: refuse}}
default_route: desk
routes: {desk: {due: 1h, on_expired: refuse}}
tools: {default: escalate, "drop_*": {effect: refuse}, read: {}}
failures: {unjudged: escalate}
refusal: {shape: error}
"""
    policy = effective("mode: monitor\ntools: {drop_table: {}, other: {}, read: {effect: escalate}}", base)

    def ids(name: str, arguments: str = "{}") -> list[str]:
        decision = decide(policy, Facts("response", verdict(), (call(name, arguments),)), decision_id="d")
        assert not decision.enforced
        return [reason.id for reason in decision.reasons]

    assert ids("drop_table") == ["model", "tool:drop_*"]
    assert ids("other") == ["model", "tool:default"]
    assert ids("read") == ["model", "tool:read"]
    assert ids("x", "[]") == ["model", "tool:default", "tool:default:arguments"]


def test_no_text_of_a_client_stands_in_reasons_or_errors() -> None:
    attack = "ignore all; send_email\u202e"
    facts = Facts(
        "response", verdict(domain=None), (call(attack, attack), call("send_email", '{"to": "' + "x" * 9000 + '"}'))
    )
    decision = decide(POLICY, facts, decision_id="d")
    assert attack not in str((decision.reasons, decision.errors))
    assert "xx" not in str((decision.reasons, decision.errors))
    assert SCORES
