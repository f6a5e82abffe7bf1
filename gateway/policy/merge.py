"""A policy over the base: gates only add; thresholds, modes, effects and approvals only tighten."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import rfc8785

from gateway.policy.arguments import ArgumentsSchema
from gateway.policy.document import (
    EmailNotice,
    Language,
    Limits,
    Mode,
    Policy,
    Route,
    Shape,
    SlackNotice,
    ToolRules,
)
from gateway.policy.source import Path, Problem, error_of
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
class EffectivePolicy:
    """What holds for one organisation. ``tools`` has the base's rules first; each layer adds its own effects.

    ``revision`` is ``sha256:`` and the digest of everything else in RFC 8785's canonical form.
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
    revision: str = field(default="", compare=False)

    def thresholds(self, release: Thresholds | None) -> Thresholds:
        """Return the lower of the release's thresholds and the policy's; what neither sets is never reached."""
        known = (Thresholds(2.0, 3.0), release, self.limits)
        refuse = [one.refuse for one in known if one is not None and one.refuse is not None]
        escalate = [one.escalate for one in known if one is not None and one.escalate is not None]
        return Thresholds(min(refuse), min(escalate))


def merge(base: Policy, policy: Policy | None = None) -> EffectivePolicy:
    """Return what holds where ``policy`` stands over ``base``, or for the base alone.

    Raises PolicyError: a value is laxer than the base, or names a route or domain that does not exist.
    """
    own = policy if policy is not None else base
    problems = list(_laxer(base, policy)) if policy is not None else []
    domains = _domains(base, policy, problems)
    routes = dict(base.routes) | dict(own.routes)
    for one in (base,) if policy is None else (base, policy):
        problems += _references(one, domains, routes)
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
    )
    return replace(merged, revision=revision_of(merged))


def _first(policy: Any, base: Any) -> Any:
    return base if policy is None else policy


def _laxer(base: Policy, policy: Policy) -> Iterator[Problem]:
    """Return a problem for each value that is laxer than the base's."""
    problem = policy.source.problem
    if policy.name == base.name:
        yield problem(("organization",), f"`{base.name}` is the name of the base; an organisation needs its own")
    if policy.mode == "monitor" and base.mode != "monitor" and not base.permits_monitor:
        what = "`mode` is laxer than the base, which does not permit `monitor`; write `mode: enforce`"
        yield problem(("mode",), what)
    for name in ("refuse", "escalate"):
        own, limit = getattr(policy.limits, name), getattr(base.limits, name)
        if own is not None and limit is not None and own > limit:
            path = ("safety", "thresholds", name)
            yield problem(path, f"`{'.'.join(path)}` is laxer than the base; it can be at most {limit:g}, not {own:g}")
    default = policy.tools.default if "default" in policy.source.value.get("tools", {}) else None
    for section, key, effect, floor in (
        ("failures", "unjudged", policy.unjudged, base.unjudged),
        ("tools", "default", default, base.tools.default),
    ):
        if effect is not None and floor is not None and effect.severity < floor.severity:
            what = f"`{section}.{key}` is laxer than the base's `{floor.value.lower()}`; remove it"
            yield problem((section, key), what)


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


def _references(own: Policy, domains: Mapping[str, Domain], routes: Mapping[str, Route]) -> Iterator[Problem]:
    """Return a problem for each name of a route or domain that does not exist."""
    named: list[tuple[Path, str | None]] = [(("default_route",), own.default_route)]
    named += [(("domains", name, "route"), rule.route) for name, rule in own.domains.items()]
    for contract in own.tools.contracts:
        at: Path = ("tools", contract.pattern)
        named += [((*at, key), getattr(contract, key)) for key in ("route", "domain")]
        named += [((*at, "otherwise", key), getattr(contract.otherwise, key)) for key in ("route", "domain")]
    for path, name in named:
        kind = "domain" if path[-1] == "domain" else "route"
        known = list(domains if kind == "domain" else routes)
        if name is not None and name not in known:
            yield own.source.problem(path, f"no {kind} `{name}`; {suggest(name, known)}")


def revision_of(policy: EffectivePolicy) -> str:
    """Return ``sha256:`` and the digest of the canonical content of ``policy``."""
    return f"sha256:{sha256(rfc8785.dumps(_plain(replace(policy, revision='')))).hexdigest()}"


def _plain(value: Any) -> Any:
    match value:
        case ArgumentsSchema():
            return _plain(value.written)
        case EmailNotice():
            return {"email": list(value.to)}
        case SlackNotice():
            return {"slack": value.variable}
        case Label():
            return value.value
        case tuple() | list():
            return [_plain(item) for item in value]
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        case _:
            return value
