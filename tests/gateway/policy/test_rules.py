"""Rules, what they may lower, the layers of teams, and obligations."""

import pytest

from gateway.decision import CapTokens, Lowering, Redact, RequireUpstream, RestrictTools, SystemNotice, Tag
from gateway.errors import PolicyError
from gateway.parts import ToolCall, Unjudged
from gateway.policy import EffectivePolicy, Facts, Trace, decide, merge
from gateway.policy.bundle import read_files
from gateway.principal import Principal
from gateway.verdict import Label, Reading, Scores, Stage, Thresholds, Verdict
from tests.gateway.policy.examples import BASE, call, effective, verdict

ALLOW, ESCALATE, REFUSE = Label.ALLOW, Label.ESCALATE, Label.REFUSE
ALICE = Principal("acme", "k1", "alice")
BOB = Principal("acme", "k2", "bob")
PERMITTING = read_files([]).base[1].decode().replace("overrides: []", "overrides: [medical, legal]")
RULES = """
routes: {desk: {due: 1h, on_expired: refuse}}
domains: {finance: {approvals: 2}}
rules:
  - id: large
    when: tool.name == "transfer" && tool.arguments.amount > 1000000
    effect: escalate
    domain: finance
    route: desk
    message: Large transfers are released by two people.
  - {id: night, when: 'now.getHours("Asia/Tokyo") >= 22', effect: refuse}
"""
NOON, LATE = 1_770_000_000_000, 1_770_041_000_000


def decided(
    policy: EffectivePolicy,
    *calls: ToolCall,
    of: Verdict | None = None,
    stage: Stage = "response",
    principal: Principal = BOB,
    now: int | None = NOON,
    trace: Trace | None = None,
) -> tuple[Label, list[str]]:
    facts = Facts(stage, of or verdict(), calls, principal=principal, now=now)
    decision = decide(policy, facts, decision_id="d", trace=trace)
    return decision.effect, [reason.id for reason in decision.reasons if reason.effect is not ALLOW]


def test_a_rule_stops_the_call_that_it_is_about() -> None:
    policy = effective(RULES)
    calls = (call("transfer", '{"amount": 5}'), call("transfer", '{"amount": 2000000}'))
    decision = decide(policy, Facts("response", verdict(), calls, now=NOON), decision_id="d")
    assert (decision.effect, decision.domain, decision.route, decision.approvals) == (ESCALATE, "finance", "desk", 2)
    assert decision.message == "Large transfers are released by two people."
    assert decided(policy, calls[0]) == (ALLOW, [])
    assert decided(policy) == (ALLOW, [])
    assert decided(policy, call("other")) == (ALLOW, [])
    assert decided(policy, now=LATE) == (REFUSE, ["rule:night"])


def test_a_rule_that_fails_stops_and_is_named() -> None:
    policy = effective(RULES)
    assert decided(policy, now=None) == (ESCALATE, ["error:rule:night"])
    facts = Facts("response", verdict(), (call("transfer", '{"amount": "much"}'),), now=NOON)
    decision = decide(policy, facts, decision_id="d")
    assert (decision.effect, decision.errors) == (ESCALATE, ("rule:large: types that do not fit",))
    strict = effective(RULES + "failures: {unjudged: refuse}")
    assert decide(strict, facts, decision_id="d").effect is REFUSE
    assert decided(policy, call("transfer", '{"amount": 1, "amount": 9}'))[1] == [
        "tool:default:arguments",
        "error:rule:large",
    ]
    assert decided(policy, call("transfer", f'{{"amount": 1{"0" * 1_100_000}}}'))[0] is not ALLOW
    odd = Facts("request", verdict(), now=10**30)
    assert decide(policy, odd, decision_id="d").errors == ("rules: OverflowError",)


OVERRIDE = "{id: ask, when: '\"alice\" == principal.owner', effect: allow, overrides: model, domain: medical}"


def test_only_a_permitted_override_lowers_the_model() -> None:
    policy = effective(f"rules: [{OVERRIDE}]", PERMITTING)
    facts = Facts("request", verdict(ESCALATE), principal=ALICE)
    decision = decide(policy, facts, decision_id="d")
    assert (decision.effect, decision.domain, decision.route) == (ALLOW, None, None)
    assert decision.lowered == (Lowering("ask", "medical", ESCALATE, ALLOW),)
    assert decided(policy, of=verdict(ESCALATE), principal=BOB) == (ESCALATE, ["model"])
    for of in (
        verdict(REFUSE),
        verdict(REFUSE, domain="medical"),
        verdict(ESCALATE, domain="legal"),
        verdict(ESCALATE, unjudged=(Unjudged("/x", "image"),)),
        verdict(ESCALATE, scores=Scores(2.0, 0.0, 0.0)),
        verdict(ESCALATE, readings=(Reading("/y", Scores(0.1, 0.1, 0.8), {}),)),
    ):
        about = Facts("request", of, principal=ALICE, thresholds=Thresholds(0.5, 0.5))
        assert decide(policy, about, decision_id="d").effect is not ALLOW
    contract = effective(f"rules: [{OVERRIDE}]\ntools: {{x: {{effect: escalate}}}}", PERMITTING)
    assert decided(contract, call("x"), of=verdict(ESCALATE), principal=ALICE) == (ESCALATE, ["tool:x"])
    own = effective(f"rules: [{OVERRIDE}]\ndomains: {{medical: {{effect: refuse}}}}", PERMITTING)
    assert decided(own, of=verdict(ESCALATE), principal=ALICE) == (REFUSE, ["domain:medical"])
    gate = effective(f"rules: [{OVERRIDE}, {{id: stop, when: 'true', effect: escalate}}]", PERMITTING)
    assert decided(gate, of=verdict(ESCALATE), principal=ALICE) == (ESCALATE, ["rule:stop"])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"rules: [{OVERRIDE}]", "overrides the model for `medical`, which the base does not permit"),
        ("rules: [{id: a, when: 'true', effect: allow}]", "does nothing alone"),
        ("rules: [{id: a, when: 'true', effect: refuse, overrides: model, domain: pii}]", "with `effect: allow` only"),
        ("rules: [{id: a, when: 'true', effect: allow, overrides: model}]", "`overrides` needs `domain`"),
        ("rules: [{id: a, when: 'true', effect: refuse, route: review}]", "with `effect: escalate` only"),
        ("rules: [{id: a, when: 'true', effect: refuse, obligations: [{tag: {word: x}}]}]", "hold for what passes"),
        ("rules: [{id: a, when: 'true', effect: escalate, route: reveiw}]", "no route `reveiw`; did you mean `review`"),
        ("rules: [{id: a, when: 'verdict.domains.medcal > 0.5', effect: refuse}]", "did you mean `medical`?"),
        ("rules: [{id: a, when: 'true', effect: allow, obligations: [{redcat: {}}]}]", "did you mean `redact`?"),
        (
            "rules: [{id: a, when: 'true', effect: allow, obligations: [{redact: {kinds: [mail]}}]}]",
            "nothing recognises `mail`; did you mean `email`?",
        ),
        ("recognisers: {email: {pattern: x}}", "`email` is recognised already"),
        ("recognisers: {no: {pattern: '(?=x)'}}", "the pattern is not one of RE2's"),
        ("recognisers: {no: {pattern: 'x*'}}", "matches nothing at all"),
        (
            "rules: [{id: a, when: 'true', effect: refuse}]\n"
            "teams: {t: {keys: [k], rules: [{id: a, when: 'true', effect: refuse}]}}",
            "stands twice",
        ),
        ("teams: {t: {}}", "the team `t` has nobody"),
        ("teams: {t: {keys: [k], domains: {violence: {effect: escalate}}}}", "laxer than the organisation's `refuse`"),
        ("teams: {t: {keys: [k], domains: {vilence: {effect: refuse}}}}", "did you mean `violence`?"),
        ("domains: {hr: {approvals: 3}}\nteams: {t: {keys: [k], domains: {hr: {approvals: 2}}}}", "at least 3"),
        ("tools: {default: refuse}\nteams: {t: {keys: [k], tools: {default: judge}}}", "organisation's `refuse`"),
        ("failures: {unjudged: refuse}\nteams: {t: {keys: [k], failures: {unjudged: escalate}}}", "`refuse`; remove"),
        (
            "safety: {thresholds: {refuse: 0.3}}\nteams: {t: {keys: [k], safety: {thresholds: {refuse: 0.4}}}}",
            "it can be at most 0.3, not 0.4",
        ),
        ("teams: {t: {keys: [k], mode: monitor}}", "unknown key `mode`"),
    ],
)
def test_what_contradicts_itself_or_the_base_is_refused(text: str, what: str) -> None:
    with pytest.raises(PolicyError) as caught:
        effective(text)
    assert what in str(caught.value)


def test_a_base_cannot_permit_what_it_refuses() -> None:
    with pytest.raises(PolicyError, match="`violence` is refused and cannot be overridden"):
        effective("", PERMITTING.replace("[medical, legal]", "[violence]"))


TEAMS = """
domains: {legal: {approvals: 2}}
rules: [{id: all, when: '"night" in principal.teams && "doctors" in principal.teams', effect: escalate}]
teams:
  doctors:
    owners: [alice]
    domains: {hr: {effect: refuse}}
    safety: {thresholds: {escalate: 0.3}}
    tools: {default: escalate, read: {}}
  night:
    keys: [k1, k3]
    domains: {legal: {approvals: 3}}
    failures: {unjudged: refuse}
    rules: [{id: dark, when: 'tool.name == "open"', effect: refuse}]
"""


def test_a_team_tightens_for_its_own_people_only() -> None:
    policy = effective(TEAMS)
    of = verdict(ESCALATE, domain="hr")
    assert decided(policy, of=of, principal=Principal("acme", "k9", "alice"))[0] is REFUSE
    assert decided(policy, of=of, principal=BOB)[0] is ESCALATE
    assert decided(policy, call("open"), principal=BOB) == (ALLOW, [])
    assert decided(policy, call("open"), principal=Principal("acme", "k3", "bob")) == (REFUSE, ["rule:dark"])
    effect, ids = decided(policy, call("open"), principal=ALICE)
    assert (effect, ids) == (REFUSE, ["tool:default", "rule:all", "rule:dark"])
    both = decide(policy, Facts("request", verdict(), principal=ALICE), decision_id="d")
    assert (both.teams, both.revision, both.policy) == (("doctors", "night"), policy.revision, "acme")
    legal = decide(policy, Facts("request", verdict(ESCALATE, domain="legal"), principal=ALICE), decision_id="d")
    assert legal.approvals == 3


def test_the_order_of_teams_does_not_matter() -> None:
    policy = effective(TEAMS)
    assert policy.within(["night", "doctors"]) is policy.within(["doctors", "night", "night", "nobody"])
    assert policy.within([]) is policy


OBLIGATIONS = """
recognisers: {patient: {pattern: 'P[0-9]{6}'}}
rules:
  - {id: a, when: 'true', effect: allow, obligations: [{redact: {kinds: [email, patient], restore: true}}, {tag: {word: b}}]}
  - {id: b, when: 'true', effect: allow, obligations: [{redact: {kinds: [phone]}}, {cap_tokens: {max: 500}}]}
  - {id: c, when: 'true', effect: escalate, obligations: [{cap_tokens: {max: 90}}, {restrict_tools: {allow: ["read_*"]}}]}
  - id: d
    when: "true"
    effect: allow
    obligations:
      - restrict_tools: {allow: [read_mail, send]}
      - system_notice: {text: Be brief.}
      - require_upstream: {trusted: true}
  - {id: e, when: 'stage == "request"', effect: refuse}
"""  # noqa: E501


def test_of_several_obligations_the_strictest_holds() -> None:
    decision = decide(effective(OBLIGATIONS), Facts("response", verdict()), decision_id="d")
    assert decision.obligations == (
        Redact(("email", "patient", "phone"), False, (("patient", "P[0-9]{6}"),)),
        RestrictTools((("read_*",), ("read_mail", "send"))),
        CapTokens(90),
        SystemNotice("Be brief."),
        RequireUpstream(),
        Tag("b"),
    )
    restriction = decision.obligations[1]
    assert isinstance(restriction, RestrictTools)
    assert [name for name in ("read_mail", "read_x", "send") if restriction.allows(name)] == ["read_mail"]
    assert decide(effective(OBLIGATIONS), Facts("request", verdict()), decision_id="d").obligations == ()


def test_an_obligation_that_cannot_be_enforced_refuses() -> None:
    policy = effective("rules: [{id: a, when: 'true', effect: allow, obligations: [{tag: {word: x}}]}]")
    facts = Facts("request", verdict(), enforces=frozenset({"redact"}))
    decision = decide(policy, facts, decision_id="d")
    assert (decision.effect, decision.errors) == (REFUSE, ("obligation:tag: cannot be enforced here",))
    assert [reason.id for reason in decision.reasons] == ["model", "rule:a", "obligation:tag"]
    assert decide(policy, Facts("request", verdict()), decision_id="d").obligations == (Tag("x"),)


def test_a_trace_tells_what_was_tried_and_changes_nothing() -> None:
    policy = effective(RULES + "tools: {pay: {effect: escalate}}")
    calls = (call("transfer", '{"amount": 2000000}'), call("pay"))
    trace = Trace()
    assert decided(policy, *calls, trace=trace) == decided(policy, *calls)
    steps = {(step.gate, step.subject, step.layer): step for step in trace.steps}
    large = steps["rule:large", "transfer", "acme"]
    assert large.held
    assert [(term.text, term.value) for term in large.terms] == [
        ('tool.name == "transfer"', True),
        ("tool.arguments.amount > 1000000", True),
    ]
    other = steps["rule:large", "pay", "acme"]
    assert (other.held, other.effect, other.terms[1].value) == (False, None, None)
    assert steps["tool:pay", "pay", "acme"].held
    assert not steps["tool:default", "pay", "base"].held
    assert not steps["rule:night", None, "acme"].held
    assert trace.won == "rule:large"


def test_the_base_may_have_rules_and_they_hold_without_a_file() -> None:
    text = PERMITTING + "rules: [{id: never, when: 'tool.name == \"drop\"', effect: refuse}]\n"
    policy = effective("", text)
    assert decided(policy, call("drop")) == (REFUSE, ["rule:never"])
    with pytest.raises(PolicyError, match="the base has a rule `never`"):
        effective("rules: [{id: never, when: 'true', effect: refuse}]", text)
    assert merge(BASE).rules == ()


def test_the_order_of_rules_changes_nothing() -> None:
    one = effective("rules: [{id: a, when: 'true', effect: escalate}, {id: b, when: 'true', effect: refuse}]")
    two = effective("rules: [{id: b, when: 'true', effect: refuse}, {id: a, when: 'true', effect: escalate}]")
    assert one.revision == two.revision
    assert effective("rules: [{id: a, when: 'true', effect: refuse}]").revision != one.revision
