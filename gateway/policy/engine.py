"""The decision: one pure function of a policy and the facts.

Each gate gives effects of its own, the most severe wins, and all that fired stand in ``reasons``. A gate that fails
inside gives the policy's effect for what is unjudged, and its name stands in ``errors``. Reason ids come from a closed
set: ``model``, ``domain:<name>``, ``unjudged``, ``tool:<pattern>``, ``tool:<pattern>:arguments``, ``tool:default``,
``tool:default:arguments``, ``rule:<id>``, ``obligation:<name>`` and ``error:<gate>``, with names and patterns of the
policy only.

Only a rule that ``overrides`` lowers anything: the model's ESCALATE in a domain that the base permits, never a failure,
a REFUSE, a contract or another rule.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.decision import Decision, Lowering, Obligation, Reason
from gateway.parts import ToolCall
from gateway.policy.arguments import ArgumentsError, MatchError, read_arguments
from gateway.policy.conditions import MAX_ARGUMENTS, ConditionError, activate, evaluate
from gateway.policy.document import ToolContract, ToolRules
from gateway.policy.merge import EffectivePolicy
from gateway.policy.obligations import OBLIGATIONS, combine
from gateway.policy.rules import Rule
from gateway.policy.trace import Step, Term, Trace
from gateway.principal import Principal
from gateway.verdict import Label, Scores, Stage, Thresholds, Verdict

_SUM_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Facts:
    """What is decided about. ``tool_calls`` are those that a reply proposes; contracts hold at the stage response.

    ``thresholds`` are the release's own. Without them the verdict's label stands for them.

    The rest is for conditions, and a rule that asks for what is not known fails. ``teams`` adds to those that the
    policy finds by ``principal``. ``kinds`` are the roles and other kinds of parts (``user``, ``tool``, ``tool_call``
    ...), ``tools`` the names of the tools offered, ``turns`` how often the user spoke, ``now`` milliseconds since the
    epoch, UTC. ``risk`` is the conversation's, in [0, 1]; without it the worst reading's refuse + escalate.
    ``enforces`` are the obligations that whoever enforces the decision knows; any other refuses.
    """

    stage: Stage
    verdict: Verdict
    tool_calls: tuple[ToolCall, ...] = ()
    thresholds: Thresholds | None = None
    principal: Principal | None = None
    teams: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    turns: int = 0
    risk: float | None = None
    now: int | None = None
    enforces: frozenset[str] = OBLIGATIONS


@dataclass(frozen=True, slots=True)
class _Finding:
    """An effect that one gate gives. ``rule``: the policy's own words brought it about, not the model alone."""

    id: str
    effect: Label
    domain: str | None = None
    route: str | None = None
    message: str | None = None
    rule: bool = False


class _Values:
    """What conditions can ask for, made ready when the first one asks."""

    __slots__ = ("_activation", "_call", "_error", "_values", "subject")

    def __init__(self, values: Mapping[str, Any], call: ToolCall | None = None) -> None:
        self.subject = call.name if call else None
        self._values = values
        self._call = call
        self._activation: Any = None
        self._error: ConditionError | None = None

    def ready(self) -> Any:
        """Return them; ConditionError: they cannot be given to a condition."""
        if self._activation is None:
            if self._error is not None:
                raise self._error
            try:
                self._activation = activate(self._own())
            except ConditionError as error:
                self._error = error
                raise
        return self._activation

    def came_to(self, program: Any) -> bool | None:
        """Return what a part of a condition comes to; None: it cannot be evaluated."""
        try:
            return evaluate(program, self.ready())
        except ConditionError:
            return None

    def _own(self) -> Mapping[str, Any]:
        if self._call is None:
            return self._values
        if len(self._call.arguments) > MAX_ARGUMENTS:
            raise ConditionError("arguments that are too long")
        try:
            arguments = read_arguments(self._call.arguments)
        except ArgumentsError:
            raise ConditionError("arguments that cannot be read") from None
        return {**self._values, "tool.name": self._call.name, "tool.arguments": arguments}


@dataclass(frozen=True, slots=True)
class _Gate:
    """Something that gives findings. ``layer`` and ``subject`` are for a trace."""

    name: str
    give: Callable[[], Iterable[_Finding]]
    layer: str
    subject: str | None = None


@dataclass(slots=True)
class _Outcome:
    """What the gates gave. ``held`` are the rules that held."""

    findings: list[_Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    held: dict[str, Rule] = field(default_factory=dict)


def decide(policy: EffectivePolicy, facts: Facts, *, decision_id: str, trace: Trace | None = None) -> Decision:
    """Return the decision of ``policy`` about ``facts``; never raises.

    The teams of the principal are applied here. With ``trace`` everything tried is recorded in it.
    """
    teams = policy.teams_of(facts.principal.key_id, facts.principal.owner) if facts.principal else ()
    policy = policy.within((*teams, *facts.teams))
    outcome = _Outcome()
    for gate in _gates(policy, facts):
        _try(gate, policy, outcome, trace)
    if policy.rules:
        _try_rules(policy, facts, outcome, trace)
    lowered = _lower(policy, facts, outcome)
    obligations = _obligations(policy, facts, outcome)
    findings = outcome.findings
    first = max(findings, key=lambda one: (one.effect.severity, _approvals(policy, one.domain), one.rule))
    stopped = first.effect is not Label.ALLOW
    if trace is not None:
        trace.won = first.id
    return Decision(
        id=decision_id,
        effect=first.effect,
        domain=first.domain if stopped else None,
        route=_route(policy, first) if first.effect is Label.ESCALATE else None,
        reasons=tuple(dict.fromkeys(Reason(one.id, one.effect, one.message) for one in findings)),
        policy=policy.name,
        revision=policy.revision,
        message=first.message if stopped else None,
        errors=tuple(dict.fromkeys(outcome.errors)),
        enforced=policy.mode == "enforce",
        approvals=max((_approvals(policy, one.domain) for one in findings if one.effect is Label.ESCALATE), default=1),
        obligations=obligations if first.effect is not Label.REFUSE else (),
        lowered=lowered,
        teams=policy.layers,
    )


def _try(gate: _Gate, policy: EffectivePolicy, outcome: _Outcome, trace: Trace | None) -> None:
    """Add what the gate gives; what it gave before it failed counts too."""
    begun = len(outcome.findings)
    error = ""
    try:
        outcome.findings.extend(gate.give())
    except (MatchError, ConditionError) as caught:
        error = f"{gate.name}: {caught}"
    except Exception as caught:  # noqa: BLE001 - whatever fails inside a gate must stop, not pass
        error = f"{gate.name}: {type(caught).__name__}"
    if error:
        outcome.errors.append(error)
        outcome.findings.append(_Finding(f"error:{gate.name}", policy.unjudged))
    if trace is not None:
        trace.steps.append(_step(gate, outcome.findings[begun:], error))


def _step(gate: _Gate, given: list[_Finding], error: str) -> Step:
    effect = max((one.effect for one in given), key=lambda one: one.severity, default=None)
    if error:
        held, why = None, f"it failed: {error.removeprefix(f'{gate.name}: ')}"
    else:
        held = effect not in (None, Label.ALLOW)
        why = ", ".join(dict.fromkeys(f"{one.id} gives {one.effect.value}" for one in given))
    return Step(gate.name, gate.layer, gate.subject, held, effect, why or "it has nothing against it")


def _try_rules(policy: EffectivePolicy, facts: Facts, outcome: _Outcome, trace: Trace | None) -> None:
    """Try each rule once, or once for each call where it asks for ``tool``."""
    try:
        known = _values(policy, facts)
    except Exception as caught:  # noqa: BLE001 - whatever the facts hold, no rule may be passed over
        outcome.errors.append(f"rules: {type(caught).__name__}")
        outcome.findings.append(_Finding("error:rules", policy.unjudged))
        return
    whole = [_Values(known)]
    calls = [_Values(known, call) for call in facts.tool_calls] if facts.stage == "response" else []
    for rule in policy.rules:
        for values in calls if rule.when.about_tools else whole:
            error = ""
            held = False
            try:
                held = rule.when.holds(values.ready())
            except ConditionError as caught:
                error = f"rule:{rule.id}: {caught}"
                outcome.errors.append(error)
                outcome.findings.append(_Finding(f"error:rule:{rule.id}", policy.unjudged))
            if held:
                outcome.held[rule.id] = rule
                outcome.findings.append(_finding_of(rule))
            if trace is not None:
                trace.steps.append(_rule_step(policy, rule, values, held, error))


def _finding_of(rule: Rule) -> _Finding:
    stops = rule.effect is not Label.ALLOW
    domain = rule.domain if stops else None
    return _Finding(f"rule:{rule.id}", rule.effect, domain, rule.route, rule.message, rule=stops)


def _rule_step(policy: EffectivePolicy, rule: Rule, values: _Values, held: bool, error: str) -> Step:
    name = f"rule:{rule.id}"
    terms = tuple(Term(text, values.came_to(program)) for text, program in rule.when.terms())
    if error:
        why = f"it failed: {error.removeprefix(f'{name}: ')}"
        return Step(name, rule.layer, values.subject, None, policy.unjudged, why, terms)
    why = f"the condition {'holds' if held else 'does not hold'}: {rule.when.written}"
    return Step(name, rule.layer, values.subject, held, rule.effect if held else None, why, terms)


def _lower(policy: EffectivePolicy, facts: Facts, outcome: _Outcome) -> tuple[Lowering, ...]:
    """Lower the model's ESCALATE where rules that hold override it for every domain that it names."""
    by_domain = {rule.domain: rule.id for rule in reversed(outcome.held.values()) if rule.overrides and rule.domain}
    if not by_domain or not any(one.id == "model" and one.effect is Label.ESCALATE for one in outcome.findings):
        return ()
    domains = {domain for label, domain in _outcomes(policy, facts) if label is Label.ESCALATE}
    if None in domains or not domains <= by_domain.keys():
        return ()
    outcome.findings[:] = [_Finding("model", Label.ALLOW) if one.id == "model" else one for one in outcome.findings]
    return tuple(
        Lowering(by_domain[domain], domain, Label.ESCALATE, Label.ALLOW) for domain in sorted(filter(None, domains))
    )


def _obligations(policy: EffectivePolicy, facts: Facts, outcome: _Outcome) -> tuple[Obligation, ...]:
    """Return the strictest of what the rules that hold ask for; what cannot be enforced refuses."""
    wanted = [one for rule in outcome.held.values() for one in rule.obligations]
    if not wanted:
        return ()
    for name in sorted({one.name for one in wanted} - facts.enforces):
        outcome.errors.append(f"obligation:{name}: cannot be enforced here")
        outcome.findings.append(_Finding(f"obligation:{name}", Label.REFUSE, rule=True))
    return combine(wanted, policy.recognisers)


def _approvals(policy: EffectivePolicy, domain: str | None) -> int:
    rule = policy.domains.get(domain or "")
    return rule.approvals if rule else 1


def _route(policy: EffectivePolicy, finding: _Finding) -> str:
    rule = policy.domains.get(finding.domain or "")
    return finding.route or (rule.route if rule else None) or policy.default_route


def _gates(policy: EffectivePolicy, facts: Facts) -> Iterator[_Gate]:
    """Return each gate, in the order of the reasons."""
    yield _Gate("model", partial(_read_verdict, policy, facts), policy.name)
    if facts.verdict.unjudged:
        yield _Gate("unjudged", lambda: [_Finding("unjudged", policy.unjudged)], policy.name)
    calls = facts.tool_calls if facts.stage == "response" else ()
    names = _layer_names(policy)
    for call in calls:
        for index, (rules, contract, speaks) in enumerate(_layers(policy, call)):
            name = f"tool:{contract.pattern if contract else 'default'}"
            give = partial(_read_call, rules, contract, call, name, speaks=speaks)
            yield _Gate(name, give, names[index], call.name)


def _layer_names(policy: EffectivePolicy) -> list[str]:
    return ["base", policy.name, *(f"team:{name}" for name in policy.layers)]


def _values(policy: EffectivePolicy, facts: Facts) -> dict[str, Any]:
    """Return the values of conditions that hold for all calls; what is not known is left out."""
    verdict = facts.verdict
    readings = [(verdict.scores, verdict.domains), *((one.scores, one.domains) for one in verdict.readings)]
    worst = dict.fromkeys(policy.domains, 0.0)
    for _, domains in readings:
        for name, score in domains.items():
            worst[name] = max(worst.get(name, 0.0), float(score))
    risk = facts.risk if facts.risk is not None else max(one.refuse + one.escalate for one, _ in readings)
    values: dict[str, Any] = {
        "stage": facts.stage,
        "parts.kinds": list(facts.kinds),
        "parts.unjudged": len(verdict.unjudged),
        "parts.judged_bytes": verdict.judged_bytes,
        "parts.tools": list(facts.tools),
        "verdict.label": verdict.label.value,
        "verdict.domain": verdict.domain or "",
        "verdict.domains": worst,
        "verdict.scores.allow": float(verdict.scores.allow),
        "verdict.scores.refuse": float(verdict.scores.refuse),
        "verdict.scores.escalate": float(verdict.scores.escalate),
        "conversation.risk": float(risk),
        "conversation.turns": facts.turns,
    }
    if facts.now is not None:
        values["now"] = datetime.fromtimestamp(facts.now / 1000, UTC)
    if (principal := facts.principal) is not None:
        values |= {
            "principal.organization": principal.organization,
            "principal.key": principal.key_id,
            "principal.owner": principal.owner,
        }
    if principal is not None or facts.teams:
        values["principal.teams"] = list(policy.layers)
    return values


def _layers(policy: EffectivePolicy, call: ToolCall) -> Iterator[tuple[ToolRules, ToolContract | None, bool]]:
    """Return what each file says of the tool, and whether that file speaks of arguments that cannot be read."""
    found = [(rules, rules.find(call.name)) for rules in policy.tools]
    speaker = max((index for index, (_, contract) in enumerate(found) if contract), default=0)
    for index, (rules, contract) in enumerate(found):
        yield rules, contract, index == speaker


def _read_verdict(policy: EffectivePolicy, facts: Facts) -> list[_Finding]:
    """Return the model's effect by its worst reading, then what stricter domains make of any reading."""
    outcomes = _outcomes(policy, facts)
    label, domain = max(outcomes, key=lambda one: (one[0].severity, _approvals(policy, one[1])))
    findings = [_Finding("model", label, domain, None, _message(policy, label, domain))]
    for name in dict.fromkeys(domain for label, domain in outcomes if label is Label.ESCALATE and domain is not None):
        rule = policy.domains.get(name)
        if rule is not None and rule.effect is Label.REFUSE:
            findings.append(_Finding(f"domain:{name}", rule.effect, name, rule.route, rule.message, rule=True))
    return findings


def _outcomes(policy: EffectivePolicy, facts: Facts) -> list[tuple[Label, str | None]]:
    """Return label and domain of the verdict and of each of its readings, by the lower thresholds."""
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
    return outcomes


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
