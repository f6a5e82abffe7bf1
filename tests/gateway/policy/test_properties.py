"""What holds for every policy and every verdict."""

import copy
import random
from collections.abc import Mapping
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.decision import Decision
from gateway.errors import PolicyError
from gateway.parts import ToolCall, Unjudged
from gateway.policy import EffectivePolicy, Facts, decide, merge, read_policy
from gateway.verdict import Label, Reading, Scores, Thresholds, Verdict
from tests.gateway.policy.examples import BASE, call

EFFECT = st.sampled_from(["escalate", "refuse"])
DOMAINS = st.sampled_from(["medical", "legal", "pii", "other", "violence", "trial"])
PATTERNS = st.sampled_from(["send", "send_*", "s*", "*", "read", "r?ad", "drop_*"])
SCHEMAS = st.sampled_from(
    [
        {"type": "object"},
        {"required": ["a"]},
        {"additionalProperties": False},
        {"properties": {"a": {"pattern": "^x$"}}},
        {"properties": {"a": {"maximum": 5}}},
    ]
)
SHARE = st.floats(0, 1)


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    contract: dict[str, Any] = {}
    if draw(st.booleans()):
        contract["effect"] = draw(EFFECT)
    if draw(st.booleans()):
        contract["arguments"] = draw(SCHEMAS)
        if draw(st.booleans()):
            contract["otherwise"] = {"effect": draw(EFFECT)}
    return contract


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    document: dict[str, Any] = {"version": 1, "organization": "acme"}
    document["domains"] = draw(st.dictionaries(DOMAINS, st.fixed_dictionaries({"effect": EFFECT}), max_size=4))
    if document["domains"].get("violence", {}).get("effect") == "escalate":
        del document["domains"]["violence"]
    document["tools"] = draw(st.dictionaries(PATTERNS, contracts(), max_size=4))
    document["tools"]["default"] = draw(st.sampled_from(["judge", "judge", "escalate", "refuse"]))
    document["safety"] = {"thresholds": draw(st.fixed_dictionaries({}, optional={"refuse": SHARE, "escalate": SHARE}))}
    document["failures"] = {"unjudged": draw(EFFECT)}
    return document


@st.composite
def scores(draw: st.DrawFn) -> Scores:
    parts = [draw(st.integers(0, 100)) for _ in range(3)]
    total = sum(parts)
    return Scores(*(part / total for part in parts)) if total else Scores(1.0, 0.0, 0.0)


DOMAIN_SCORES = st.dictionaries(DOMAINS, SHARE, max_size=4)
CALLS = st.builds(
    call,
    st.sampled_from(["send", "send_mail", "read", "drop_all", "else"]),
    st.sampled_from(
        ["{}", "", '{"a": "x"}', '{"a": "x\\n"}', '{"a": 6}', '{"b": 1}', '{"a":1,"a":2}', "[]", '{"a":NaN}']
    ),
)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    label = draw(st.sampled_from(list(Label)))
    verdict = Verdict(
        label=label,
        scores=draw(scores()),
        domain=None if label is Label.ALLOW else draw(DOMAINS),
        domains=draw(DOMAIN_SCORES),
        pointer="/messages/0",
        release="r",
        release_digest="0" * 64,
        template=1,
        judged_bytes=1,
        readings=tuple(draw(st.lists(st.builds(Reading, st.just("/x"), scores(), DOMAIN_SCORES), max_size=3))),
        unjudged=draw(st.sampled_from([(), (), (Unjudged("/x", "an image"),)])),
    )
    thresholds = draw(st.none() | st.builds(Thresholds, SHARE, SHARE))
    calls: tuple[ToolCall, ...] = tuple(draw(st.lists(CALLS, max_size=3)))
    return Facts(draw(st.sampled_from(["request", "response"])), verdict, calls, thresholds)


def effective(document: Mapping[str, Any]) -> EffectivePolicy:
    return merge(BASE, read_policy(orjson.dumps(document), "acme.yaml"))


def decided(document: Mapping[str, Any], about: Facts) -> Decision:
    return decide(effective(document), about, decision_id="d")


@given(policies(), facts())
@settings(max_examples=100, deadline=None)
def test_no_policy_is_laxer_than_the_base(document: dict[str, Any], about: Facts) -> None:
    base = decide(merge(BASE), about, decision_id="d")
    own = decided(document, about)
    assert own.effect.severity >= base.effect.severity
    assert own.effect is Label.REFUSE or about.verdict.label is not Label.REFUSE


@given(policies(), facts(), st.data())
@settings(max_examples=100, deadline=None)
def test_adding_or_tightening_a_gate_never_makes_a_decision_laxer(
    document: dict[str, Any], about: Facts, data: st.DataObject
) -> None:
    tighter = copy.deepcopy(document)
    gate = data.draw(st.sampled_from(["threshold", "domain", "contract", "effect", "default", "unjudged"]))
    if gate == "threshold":
        name = data.draw(st.sampled_from(["refuse", "escalate"]))
        limits = tighter["safety"]["thresholds"]
        limits[name] = data.draw(st.floats(0, limits.get(name, 1.0)))
    elif gate == "domain":
        tighter["domains"][data.draw(DOMAINS)] = {"effect": "refuse"}
    elif gate == "contract":
        # A new name speaks for tools that another contract or the default spoke for; where none did, it only adds.
        assume(document["tools"] == {"default": "judge"})
        tighter["tools"] |= data.draw(st.dictionaries(PATTERNS, contracts(), max_size=4))
    elif gate == "effect":
        for contract in tighter["tools"].values():
            if isinstance(contract, dict):
                contract["effect"] = "refuse"
    elif gate == "default":
        tighter["tools"]["default"] = "refuse"
    else:
        tighter["failures"]["unjudged"] = "refuse"
    assert decided(tighter, about).effect.severity >= decided(document, about).effect.severity


@given(policies(), facts())
@settings(max_examples=100, deadline=None)
def test_a_decision_is_a_pure_function(document: dict[str, Any], about: Facts) -> None:
    kept = copy.deepcopy(about)
    policy = effective(document)
    first = decide(policy, about, decision_id="d")
    assert decide(policy, about, decision_id="d") == first
    assert decided(document, about) == first
    assert about == kept
    assert policy.revision == effective(document).revision == first.revision


@given(policies(), facts())
@settings(max_examples=100, deadline=None)
def test_the_effect_is_the_most_severe_reason(document: dict[str, Any], about: Facts) -> None:
    decision = decided(document, about)
    assert decision.effect is max((reason.effect for reason in decision.reasons), key=lambda effect: effect.severity)
    assert (decision.route is not None) == (decision.effect is Label.ESCALATE)
    assert decision.domain is None or decision.effect is not Label.ALLOW
    assert decision.errors == ()


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return value


@given(policies(), facts(), st.integers())
@settings(max_examples=100, deadline=None)
def test_the_order_of_keys_does_not_matter(document: dict[str, Any], about: Facts, seed: int) -> None:
    other = shuffled(document, random.Random(seed))
    assert effective(other).revision == effective(document).revision
    assert decided(other, about) == decided(document, about)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["version", "organization", "tools", "domains", "safety", "routes", "arguments", "effect", "x"]), inner, max_size=4), max_leaves=12))  # fmt: skip # noqa: E501
@settings(max_examples=100, deadline=None)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        data = orjson.dumps(value)
    except (TypeError, ValueError):
        assume(False)
    try:
        merge(BASE, read_policy(data, "acme.yaml"))
    except PolicyError as error:
        assert error.problems  # noqa: PT017
