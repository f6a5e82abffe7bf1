"""The decision: one pure function of a policy and the facts.

Each gate gives effects of its own, the most severe wins, and all that fired stand in ``reasons``. A gate that fails
inside gives the policy's effect for what is unjudged, and its name stands in ``errors``. Reason ids come from a closed
set: ``model``, ``domain:<name>``, ``unjudged``, ``tool:<pattern>``, ``tool:<pattern>:arguments``, ``tool:default``,
``tool:default:arguments`` and ``error:<gate>``, with names and patterns of the policy only.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.decision import Decision, Reason
from gateway.parts import ToolCall
from gateway.policy.arguments import ArgumentsError, MatchError, read_arguments
from gateway.policy.document import ToolContract, ToolRules
from gateway.policy.merge import EffectivePolicy
from gateway.verdict import Label, Scores, Stage, Thresholds, Verdict

_SUM_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Facts:
    """What is decided about. ``tool_calls`` are those that a reply proposes; contracts hold at the stage response.

    ``thresholds`` are the release's own. Without them the verdict's label stands for them.
    """

    stage: Stage
    verdict: Verdict
    tool_calls: tuple[ToolCall, ...] = ()
    thresholds: Thresholds | None = None


@dataclass(frozen=True, slots=True)
class _Finding:
    """An effect that one gate gives. ``rule``: the policy's own words brought it about, not the model alone."""

    id: str
    effect: Label
    domain: str | None = None
    route: str | None = None
    message: str | None = None
    rule: bool = False


def decide(policy: EffectivePolicy, facts: Facts, *, decision_id: str) -> Decision:
    """Return the decision of ``policy`` about ``facts``; never raises."""
    findings: list[_Finding] = []
    errors: list[str] = []
    for gate, give in _gates(policy, facts):
        try:
            findings.extend(give())  # what a gate gave before it failed counts too
        except MatchError as error:
            errors.append(f"{gate}: {error}")
            findings.append(_Finding(f"error:{gate}", policy.unjudged))
        except Exception as error:  # noqa: BLE001 - whatever fails inside a gate must stop, not pass
            errors.append(f"{gate}: {type(error).__name__}")
            findings.append(_Finding(f"error:{gate}", policy.unjudged))
    first = max(findings, key=lambda one: (one.effect.severity, _approvals(policy, one.domain), one.rule))
    stopped = first.effect is not Label.ALLOW
    return Decision(
        id=decision_id,
        effect=first.effect,
        domain=first.domain if stopped else None,
        route=_route(policy, first) if first.effect is Label.ESCALATE else None,
        reasons=tuple(dict.fromkeys(Reason(one.id, one.effect, one.message) for one in findings)),
        policy=policy.name,
        revision=policy.revision,
        message=first.message if stopped else None,
        errors=tuple(dict.fromkeys(errors)),
        enforced=policy.mode == "enforce",
    )


def _approvals(policy: EffectivePolicy, domain: str | None) -> int:
    rule = policy.domains.get(domain or "")
    return rule.approvals if rule else 1


def _route(policy: EffectivePolicy, finding: _Finding) -> str:
    rule = policy.domains.get(finding.domain or "")
    return finding.route or (rule.route if rule else None) or policy.default_route


def _gates(policy: EffectivePolicy, facts: Facts) -> Iterator[tuple[str, Callable[[], Iterable[_Finding]]]]:
    """Return each gate's name and what gives its findings, in the order of the reasons."""
    yield "model", partial(_read_verdict, policy, facts)
    if facts.verdict.unjudged:
        yield "unjudged", lambda: [_Finding("unjudged", policy.unjudged)]
    for call in facts.tool_calls if facts.stage == "response" else ():
        for rules, contract, speaks in _layers(policy, call):
            gate = f"tool:{contract.pattern if contract else 'default'}"
            yield gate, partial(_read_call, rules, contract, call, gate, speaks=speaks)


def _layers(policy: EffectivePolicy, call: ToolCall) -> Iterator[tuple[ToolRules, ToolContract | None, bool]]:
    """Return what each file says of the tool, and whether that file speaks of arguments that cannot be read."""
    found = [(rules, rules.find(call.name)) for rules in policy.tools]
    speaker = max((index for index, (_, contract) in enumerate(found) if contract), default=0)
    for index, (rules, contract) in enumerate(found):
        yield rules, contract, index == speaker


def _read_verdict(policy: EffectivePolicy, facts: Facts) -> list[_Finding]:
    """Return the model's effect by its worst reading, then what stricter domains make of any reading."""
    verdict, thresholds = facts.verdict, policy.thresholds(facts.thresholds)
    readings = [(verdict.scores, verdict.domains), *((one.scores, one.domains) for one in verdict.readings)]
    outcomes: list[tuple[Label, str | None]] = []
    for index, (scores, domains) in enumerate(readings):
        _check(scores)
        label = thresholds.label(scores)
        if index == 0:
            label = max(label, verdict.label, key=lambda one: one.severity)
        same = index == 0 and label is verdict.label
        outcomes.append((label, verdict.domain if same else _likeliest(policy, label, domains)))
    label, domain = max(outcomes, key=lambda one: (one[0].severity, _approvals(policy, one[1])))
    findings = [_Finding("model", label, domain, None, _message(policy, label, domain))]
    for name in dict.fromkeys(domain for label, domain in outcomes if label is Label.ESCALATE and domain is not None):
        rule = policy.domains.get(name)
        if rule is not None and rule.effect is Label.REFUSE:
            findings.append(_Finding(f"domain:{name}", rule.effect, name, rule.route, rule.message, rule=True))
    return findings


def _check(scores: Scores) -> None:
    values = (scores.allow, scores.refuse, scores.escalate)
    if not all(0 <= value <= 1 for value in values) or not math.isclose(sum(values), 1, abs_tol=_SUM_TOLERANCE):
        raise ValueError("the scores are not probabilities")


def _likeliest(policy: EffectivePolicy, label: Label, scores: Mapping[str, float]) -> str | None:
    """Return the likeliest domain that belongs to ``label``, None for ALLOW."""
    own = [(score, name) for name, score in scores.items() if name in policy.domains]
    own = [(score, name) for score, name in own if policy.domains[name].label is label]
    return max(own)[1] if own else None


def _message(policy: EffectivePolicy, label: Label, domain: str | None) -> str | None:
    rule = policy.domains.get(domain or "")
    return rule.message if rule and label is not Label.ALLOW else None


def _read_call(
    rules: ToolRules, contract: ToolContract | None, call: ToolCall, gate: str, *, speaks: bool
) -> Iterator[_Finding]:
    """Return what one file's rules say of one proposed call."""
    if contract is None:
        if rules.default is not Label.ALLOW:
            yield _Finding(gate, rules.default, rule=True)
    elif contract.effect is not None:
        yield _Finding(gate, contract.effect, contract.domain, contract.route, contract.message, rule=True)
    try:
        arguments = read_arguments(call.arguments)
    except ArgumentsError:
        if speaks:
            found = contract or ToolContract("default")
            yield _Finding(f"{gate}:arguments", Label.REFUSE, found.domain, None, found.message, rule=True)
        return
    if contract is not None and contract.arguments is not None and not contract.arguments.matches(arguments):
        other = contract.otherwise
        yield _Finding(
            f"{gate}:arguments",
            other.effect,
            other.domain or contract.domain,
            other.route or contract.route,
            other.message or contract.message,
            rule=True,
        )
