"""A policy over the base only tightens."""

import pytest

from gateway.errors import PolicyError
from gateway.policy import merge
from gateway.policy.merge import Domain
from gateway.verdict import Label, Thresholds
from tests.gateway.policy.examples import BASE, effective

STRICT = """
version: 1
name: strict
language: ja
mode: enforce
permits: {monitor: true}
safety: {thresholds: {refuse: 0.5, escalate: 0.3}}
domains:
  medical: {effect: escalate, approvals: 2, route: desk, message: base says}
  violence: {effect: refuse}
default_route: desk
routes: {desk: {due: 1h, on_expired: refuse}}
tools: {default: escalate, "drop_*": {effect: refuse}}
failures: {unjudged: refuse}
refusal: {shape: error}
"""


def test_the_base_alone_holds_for_whoever_has_no_file() -> None:
    policy = merge(BASE)
    assert (policy.name, policy.language, policy.mode, policy.shape) == ("base", "en", "enforce", "content_filter")
    assert policy.domains["pii"] == Domain(Label.ESCALATE, Label.ESCALATE)
    assert policy.unjudged is Label.ESCALATE
    assert policy.thresholds(Thresholds(0.6, 0.4)) == Thresholds(0.6, 0.4)


def test_what_a_policy_leaves_out_is_the_bases() -> None:
    policy = effective("", STRICT)
    assert (policy.name, policy.language, policy.shape, policy.unjudged) == ("acme", "ja", "error", Label.REFUSE)
    assert policy.domains["medical"] == Domain(Label.ESCALATE, Label.ESCALATE, "desk", "base says", 2)
    assert policy.tools[0].default is Label.ESCALATE


def test_what_a_policy_says_replaces_what_is_free_and_tightens_the_rest() -> None:
    policy = effective(
        "language: en\nmode: monitor\nsafety: {thresholds: {refuse: 0.4}}\nrefusal: {shape: content_filter}\n"
        "domains: {medical: {effect: refuse, message: own}, trial: {effect: escalate, route: lab}}\n"
        "routes: {lab: {due: 1h, on_expired: refuse}, desk: {due: 2h, on_expired: refuse}}\ndefault_route: lab\n",
        STRICT,
    )
    assert (policy.language, policy.mode, policy.shape, policy.default_route) == (
        "en",
        "monitor",
        "content_filter",
        "lab",
    )
    assert policy.domains["medical"] == Domain(Label.REFUSE, Label.ESCALATE, "desk", "own", 2)
    assert policy.domains["trial"] == Domain(Label.ESCALATE, Label.ESCALATE, "lab")
    assert policy.routes["desk"].due_s == 7200
    assert policy.thresholds(None) == Thresholds(0.4, 0.3)
    assert policy.thresholds(Thresholds(0.2, 0.9)) == Thresholds(0.2, 0.3)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("safety: {thresholds: {refuse: 0.6}}", "acme.yaml:3:31: `safety.thresholds.refuse` is laxer than the base"),
        ("safety: {thresholds: {escalate: 0.31}}", "it can be at most 0.3, not 0.31"),
        (
            "domains: {medical: {approvals: 1}}",
            "`domains.medical.approvals` is laxer than the base; it can be at least 2",
        ),
        ("domains: {violence: {effect: escalate}}", "`domains.violence.effect` is laxer than the base's `refuse`"),
        ("failures: {unjudged: escalate}", "`failures.unjudged` is laxer than the base's `refuse`"),
        ("tools: {default: judge}", "`tools.default` is laxer than the base's `escalate`"),
        ("domains: {trial: {}}", "`domains.trial` lacks `effect`"),
        ("domains: {voilence: {effect: escalate}}", "looks like `violence` written wrongly"),
        ("default_route: lab", "no route `lab`; known: desk"),
    ],
)
def test_a_laxer_value_is_refused(text: str, what: str) -> None:
    with pytest.raises(PolicyError) as caught:
        effective(text, STRICT)
    assert what in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_base_needs_every_key_and_effect() -> None:
    with pytest.raises(PolicyError, match="the file lacks `permits`"):
        effective("", STRICT.replace("permits: {monitor: true}\n", ""))
    with pytest.raises(PolicyError, match=r"own-base\.yaml:10:13: `domains\.violence` lacks `effect`"):
        effective("", STRICT.replace("violence: {effect: refuse}", "violence: {}"))
    with pytest.raises(PolicyError, match="no route `dekc`; did you mean `desk`"):
        effective("", STRICT.replace("default_route: desk", "default_route: dekc"))


def test_a_tool_that_the_base_stops_stays_stopped_whatever_a_policy_names() -> None:
    policy = effective("tools: {drop_table: {}, other: {}}", STRICT)
    assert len(policy.tools) == 2
    found = policy.tools[0].find("drop_table")
    assert found is not None
    assert found.effect is Label.REFUSE


def test_the_revision_is_of_the_content_and_not_of_its_text() -> None:
    text = "language: ja\ntools: {a: {effect: refuse}, b: {arguments: {required: [x], type: object}}}\n"
    other = "# a remark\ntools:\n  b:\n    arguments: {type: object, required: ['x']}\n  a: {effect: refuse}\n"
    other += "language: ja\n"
    assert effective(text) == effective(other)
    assert effective(text).revision == effective(other).revision
    assert effective(text).revision.startswith("sha256:")
    assert len(effective(text).revision) == 71
    for changed in ("", text.replace("refuse", "escalate"), text.replace("[x]", "[y]"), text.replace("ja", "en")):
        assert effective(changed).revision != effective(text).revision
    assert effective(text, STRICT).revision != effective(text).revision
