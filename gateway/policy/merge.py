"""A policy over the base: gates only add; thresholds, modes, effects and approvals only tighten."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import rfc8785

from gateway.decision import CapTokens, Redact, RequireUpstream, RestrictTools, SystemNotice, Tag
from gateway.policy.arguments import ArgumentsSchema
from gateway.policy.conditions import Condition
from gateway.policy.document import (
    AfterHold,
    EmailNotice,
    Language,
    Limits,
    Mode,
    Policy,
    Route,
    Shape,
    SlackNotice,
    Team,
    ToolRules,
    WebhookNotice,
)
from gateway.policy.recognisers import BUILT_IN
from gateway.policy.rules import Rule, redacted_kinds
from gateway.policy.source import Path, Problem, Source, error_of
from gateway.policy.violations import suggest
from gateway.verdict import Label, Thresholds

_TOO_CLOSE: Final = 0.85


@dataclass(frozen=True, slots=True)
class Domain:
    """What happens with a stop of this domain. ``label`` is the label that the domain belongs to."""

    effect: Label
    label: Label
    route: str | None = None
    message: str | None = None
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class Escalation:
    """How long a plain and a streamed call are held while people decide, in seconds, and what the client gets then."""

    hold_s: int = 50
    stream_hold_s: int = 600
    after_hold: AfterHold = "conflict"


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for one organisation, or for those of its people who are in ``layers``, its teams that were applied.

    ``tools`` has the base's rules first; each layer adds its own effects. ``rules`` are those of all layers, by id.
    ``revision`` is ``sha256:`` and the digest of the whole file over the base in RFC 8785's canonical form; every team
    of the organisation has the same.
    """

    name: str
    language: Language
    mode: Mode
    release: str | None
    limits: Limits
    domains: Mapping[str, Domain]
    default_route: str
    routes: Mapping[str, Route]
    tools: tuple[ToolRules, ...]
    unjudged: Label
    shape: Shape
    escalation: Escalation
    rules: tuple[Rule, ...] = ()
    recognisers: Mapping[str, str] = field(default_factory=dict)
    teams: Mapping[str, Team] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    revision: str = field(default="", compare=False)
    layered: dict[tuple[str, ...], "EffectivePolicy"] = field(default_factory=dict, compare=False, repr=False)

    def thresholds(self, release: Thresholds | None) -> Thresholds:
        """Return the lower of the release's thresholds and the policy's; what neither sets is never reached."""
        known = (Thresholds(2.0, 3.0), release, self.limits)
        refuse = [one.refuse for one in known if one is not None and one.refuse is not None]
        escalate = [one.escalate for one in known if one is not None and one.escalate is not None]
        return Thresholds(min(refuse), min(escalate))

    def teams_of(self, key: str, owner: str) -> tuple[str, ...]:
        """Return the teams that a key belongs to, by itself or by its owner, A to Z."""
        return tuple(name for name, team in self.teams.items() if key in team.keys or owner in team.owners)

    def within(self, teams: Iterable[str]) -> "EffectivePolicy":
        """Return what holds for whoever is in all of ``teams``, in any order; unknown names have no effect."""
        names = tuple(sorted({name for name in teams if name in self.teams}))
        if not names or self.layers:
            return self
        if (found := self.layered.get(names)) is None:
            found = self
            for name in names:
                found = _tighten(found, self.teams[name])
            self.layered[names] = found
        return found


def merge(base: Policy, policy: Policy | None = None) -> EffectivePolicy:
    """Return what holds where ``policy`` stands over ``base``, or for the base alone.

    Raises PolicyError: a value is laxer than the base, or names a route or domain that does not exist.
    """
    own = policy if policy is not None else base
    problems = list(_laxer(base, policy)) if policy is not None else []
    domains = _domains(base, policy, problems)
    routes = dict(base.routes) | dict(own.routes)
    recognisers = dict(own.recognisers) | dict(base.recognisers)
    for one in (base,) if policy is None else (base, policy):
        problems += _references(one.source, one, domains, routes)
        rules = [*one.rules, *(rule for team in one.teams.values() for rule in team.rules)]
        problems += _rule_problems(one.source, rules, base, domains, recognisers)
    problems += _permits(base)
    if problems:
        raise error_of(problems)
    over = policy or Policy(base.name, base.source)
    merged = EffectivePolicy(
        name=own.name,
        language=_first(over.language, base.language),
        mode=_first(over.mode, base.mode),
        release=over.release or base.release,
        limits=Limits(
            _first(over.limits.refuse, base.limits.refuse), _first(over.limits.escalate, base.limits.escalate)
        ),
        domains=MappingProxyType(domains),
        default_route=_first(over.default_route, base.default_route),
        routes=MappingProxyType(routes),
        tools=(base.tools, over.tools),
        unjudged=_first(over.unjudged, base.unjudged),
        shape=_first(over.shape, base.shape),
        escalation=_escalation(base, over),
        rules=_by_id(base.rules, over.rules),
        recognisers=MappingProxyType(recognisers),
        teams=over.teams,
    )
    for team in over.teams.values():
        problems += _laxer_team(over.source, team, merged)
        problems += _references(over.source, team, domains, routes)
    if problems:
        raise error_of(problems)
    return replace(merged, revision=revision_of(merged))


def _by_id(*layers: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(sorted((rule for rules in layers for rule in rules), key=lambda rule: (rule.id, rule.layer)))


def _tighten(policy: EffectivePolicy, team: Team) -> EffectivePolicy:
    """Return ``policy`` with one more team over it: of everything that both say the stricter."""
    domains = dict(policy.domains)
    for name, rule in team.domains.items():
        old = domains[name]
        effect = max(old.effect, rule.effect or old.effect, key=lambda one: one.severity)
        approvals = max(old.approvals, rule.approvals or 1)
        domains[name] = Domain(effect, old.label, rule.route or old.route, rule.message or old.message, approvals)
    return replace(
        policy,
        limits=Limits(
            _least(policy.limits.refuse, team.limits.refuse), _least(policy.limits.escalate, team.limits.escalate)
        ),
        domains=MappingProxyType(domains),
        default_route=_first(team.default_route, policy.default_route),
        tools=(*policy.tools, team.tools),
        unjudged=max(policy.unjudged, team.unjudged or policy.unjudged, key=lambda one: one.severity),
        rules=_by_id(policy.rules, team.rules),
        layers=(*policy.layers, team.name),
        layered={},
    )


def _least(*values: float | None) -> float | None:
    said = [value for value in values if value is not None]
    return min(said) if said else None


def _first(policy: Any, base: Any) -> Any:
    return base if policy is None else policy


def _escalation(*layers: Policy) -> Escalation:
    said: dict[str, Any] = {}
    for layer in layers:
        words = {item.name: getattr(layer.escalation, item.name) for item in fields(layer.escalation)}
        said |= {name: word for name, word in words.items() if word is not None}
    return Escalation(**said)


def _laxer(base: Policy, policy: Policy) -> Iterator[Problem]:
    """Return a problem for each value that is laxer than the base's."""
    problem = policy.source.problem
    if policy.name == base.name:
        yield problem(("organization",), f"`{base.name}` is the name of the base; an organisation needs its own")
    if policy.mode == "monitor" and base.mode != "monitor" and not base.permits_monitor:
        what = "`mode` is laxer than the base, which does not permit `monitor`; write `mode: enforce`"
        yield problem(("mode",), what)
    for kind in policy.recognisers:
        if kind in base.recognisers:
            yield problem(
                ("recognisers", kind), f"`{kind}` is recognised by the base already; take another name", key=True
            )
    yield from _laxer_values(policy.source, policy, base.limits, base.tools.default, base.unjudged, "the base")


def _laxer_team(source: Source, team: Team, over: EffectivePolicy) -> Iterator[Problem]:
    """Return a problem for each value of a team that is laxer than what holds for its organisation."""
    default = max((rules.default for rules in over.tools), key=lambda one: one.severity)
    yield from _laxer_values(source, team, over.limits, default, over.unjudged, "the organisation")
    for name, rule in team.domains.items():
        at: Path = (*team.at, "domains", name)
        old = over.domains.get(name)
        if old is None:
            yield source.problem(at, f"no domain `{name}`; {suggest(name, list(over.domains))}", key=True)
        elif rule.effect is not None and rule.effect.severity < old.effect.severity:
            what = f"`{'.'.join(map(str, at))}.effect` is laxer than the organisation's `{old.effect.value.lower()}`"
            yield source.problem((*at, "effect"), f"{what}; remove it")
        if old is not None and rule.approvals is not None and rule.approvals < old.approvals:
            what = f"`{'.'.join(map(str, at))}.approvals` is laxer than the organisation's"
            yield source.problem((*at, "approvals"), f"{what}; it can be at least {old.approvals}")


def _laxer_values(
    source: Source, own: Policy | Team, limits: Limits, default: Label, unjudged: Label | None, under: str
) -> Iterator[Problem]:
    for name in ("refuse", "escalate"):
        value, limit = getattr(own.limits, name), getattr(limits, name)
        if value is not None and limit is not None and value > limit:
            path = (*own.at, "safety", "thresholds", name)
            what = f"`{'.'.join(map(str, path))}` is laxer than {under}; it can be at most {limit:g}, not {value:g}"
            yield source.problem(path, what)
    said = (*own.at, "tools", "default") in source.places
    for section, key, effect, floor in (
        ("failures", "unjudged", own.unjudged, unjudged),
        ("tools", "default", own.tools.default if said else None, default),
    ):
        if effect is not None and floor is not None and effect.severity < floor.severity:
            path = (*own.at, section, key)
            what = f"`{'.'.join(map(str, path))}` is laxer than {under}'s `{floor.value.lower()}`; remove it"
            yield source.problem(path, what)


def _permits(base: Policy) -> Iterator[Problem]:
    """Return a problem for each domain in which the base itself must not let a rule lower the model."""
    at: Path = ("permits", "overrides")
    for name in base.permits_overrides:
        rule = base.domains.get(name)
        if rule is None:
            yield base.source.problem(at, f"no domain `{name}`; {suggest(name, list(base.domains))}")
        elif rule.effect is Label.REFUSE:
            yield base.source.problem(at, f"`{name}` is refused and cannot be overridden; remove it from `overrides`")


def _rule_problems(
    source: Source,
    rules: Iterable[Rule],
    base: Policy,
    domains: Mapping[str, Domain],
    recognisers: Mapping[str, str],
) -> Iterator[Problem]:
    """Return a problem for each override that the base does not permit, and each domain or kind that is not known."""
    ids = {rule.id for rule in base.rules}
    known = (*BUILT_IN, *recognisers)
    for rule in rules:
        if source is not base.source and rule.id in ids:
            yield source.problem((*rule.at, "id"), f"the base has a rule `{rule.id}`; take another `id`")
        if rule.overrides and rule.domain in domains and rule.domain not in base.permits_overrides:
            what = f"`{rule.id}` overrides the model for `{rule.domain}`, which the base does not permit"
            yield source.problem((*rule.at, "overrides"), f"{what} (`permits.overrides`); remove the rule")
        for name, offset in rule.when.domains:
            if name not in domains:
                what = f"`{rule.id}`: no domain `{name}`; {suggest(name, list(domains))}"
                yield source.inside((*rule.at, "when"), offset, what)
        for path, kind in redacted_kinds(rule):
            if kind not in known:
                yield source.problem(path, f"nothing recognises `{kind}`; {suggest(kind, list(known))}")


def _domains(base: Policy, policy: Policy | None, problems: list[Problem]) -> dict[str, Domain]:
    domains: dict[str, Domain] = {}
    for name, rule in base.domains.items():
        if rule.effect is None:
            problems.append(base.source.problem(("domains", name), f"`domains.{name}` lacks `effect`"))
            continue
        domains[name] = Domain(rule.effect, rule.effect, rule.route, rule.message, rule.approvals or 1)
    if policy is None:
        return domains
    problem, known = policy.source.problem, list(domains)
    for name, rule in policy.domains.items():
        at: Path = ("domains", name)
        old = domains.get(name)
        if old is None and (close := get_close_matches(name, known, 1, _TOO_CLOSE)):
            what = f"the domain `{name}` looks like `{close[0]}` written wrongly; an own domain needs another name"
            problems.append(problem(at, what, key=True))
        if old is None and rule.effect is None:
            what = f"`domains.{name}` lacks `effect`: the base does not know this domain; {suggest(name, known)}"
            problems.append(problem(at, what, key=True))
        if old and rule.effect and rule.effect.severity < old.effect.severity:
            what = f"`domains.{name}.effect` is laxer than the base's `{old.effect.value.lower()}`; remove it"
            problems.append(problem((*at, "effect"), what))
        if old and rule.approvals and rule.approvals < old.approvals:
            what = f"`domains.{name}.approvals` is laxer than the base; it can be at least {old.approvals}"
            problems.append(problem((*at, "approvals"), what))
        effect = rule.effect or (old.effect if old else Label.REFUSE)
        domains[name] = Domain(
            effect,
            old.label if old else effect,
            rule.route or (old.route if old else None),
            rule.message or (old.message if old else None),
            rule.approvals or (old.approvals if old else 1),
        )
    return dict(sorted(domains.items()))


def _references(
    source: Source, own: Policy | Team, domains: Mapping[str, Domain], routes: Mapping[str, Route]
) -> Iterator[Problem]:
    """Return a problem for each name of a route or domain that does not exist."""
    at = own.at
    named: list[tuple[Path, str | None]] = [((*at, "default_route"), own.default_route)]
    named += [((*at, "domains", name, "route"), rule.route) for name, rule in own.domains.items()]
    for contract in own.tools.contracts:
        path: Path = (*at, "tools", contract.pattern)
        named += [((*path, key), getattr(contract, key)) for key in ("route", "domain")]
        named += [((*path, "otherwise", key), getattr(contract.otherwise, key)) for key in ("route", "domain")]
    named += [((*rule.at, key), getattr(rule, key)) for rule in own.rules for key in ("route", "domain")]
    for path, name in named:
        kind = "domain" if path[-1] == "domain" else "route"
        known = list(domains if kind == "domain" else routes)
        if name is not None and name not in known:
            yield source.problem(path, f"no {kind} `{name}`; {suggest(name, known)}")


def revision_of(policy: EffectivePolicy) -> str:
    """Return ``sha256:`` and the digest of the canonical content of ``policy``."""
    return f"sha256:{sha256(rfc8785.dumps(_plain(replace(policy, revision='')))).hexdigest()}"


def _plain(value: Any) -> Any:
    match value:
        case ArgumentsSchema():
            return _plain(value.written)
        case Condition():
            return value.written
        case EmailNotice():
            return {"email": list(value.to)}
        case SlackNotice():
            return {"slack": value.variable}
        case WebhookNotice():
            return {"webhook": value.variable}
        case Label():
            return value.value
        case Redact() | RestrictTools() | CapTokens() | SystemNotice() | RequireUpstream() | Tag():
            return {value.name: {item.name: _plain(getattr(value, item.name)) for item in fields(value)}}
        case frozenset():
            return sorted(map(str, value))
        case tuple() | list():
            return [_plain(item) for item in value]
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value) if item.compare}
        case _:
            return value
