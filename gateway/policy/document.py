"""A policy file as frozen dataclasses: read, checked against the schema, every problem with its place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, Literal

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.protocols import Validator

from gateway.policy.arguments import ArgumentsSchema, compile_schema
from gateway.policy.patterns import translate
from gateway.policy.recognisers import BUILT_IN, own_pattern_problem
from gateway.policy.rules import Rule, read_rules
from gateway.policy.schema import BASE_SCHEMA, POLICY_SCHEMA
from gateway.policy.source import Path, Problem, Source, error_of, read_source
from gateway.policy.violations import problems_of
from gateway.verdict import Label

Language = Literal["en", "ja"]
Mode = Literal["enforce", "monitor"]
Shape = Literal["content_filter", "error"]
AfterHold = Literal["conflict", "refusal"]
OnUnreachable = Literal["wait", "refuse"]

EFFECTS: Final = {"judge": Label.ALLOW, "escalate": Label.ESCALATE, "refuse": Label.REFUSE}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class DomainRule:
    """What a policy says of a domain; None is what the base says."""

    effect: Label | None = None
    route: str | None = None
    message: str | None = None
    approvals: int | None = None


@dataclass(frozen=True, slots=True)
class EmailNotice:
    """A mail to ``to``."""

    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlackNotice:
    """A message to the incoming webhook whose address is in the environment variable ``variable``."""

    variable: str


@dataclass(frozen=True, slots=True)
class WebhookNotice:
    """A signed message to the address in the environment variable ``variable``."""

    variable: str


Notice = EmailNotice | SlackNotice | WebhookNotice


@dataclass(frozen=True, slots=True)
class Route:
    """Where cases go. Without ``reviewers`` any reviewer of the organisation may decide.

    ``on_unreachable``: what becomes of a case none of whose channels can be reached. ``cli``: whether a case may be
    decided at the command line.
    """

    due_s: int
    on_expired: Label = Label.REFUSE
    reviewers: tuple[str, ...] = ()
    notify: tuple[Notice, ...] = ()
    on_unreachable: OnUnreachable = "refuse"
    cli: bool = True


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client is held while people decide, in seconds; None is what the base says."""

    hold_s: int | None = None
    stream_hold_s: int | None = None
    after_hold: AfterHold | None = None


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What happens to a call whose arguments do not match."""

    effect: Label = Label.REFUSE
    domain: str | None = None
    route: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ToolContract:
    """What the tools that ``pattern`` names may be called with."""

    pattern: str
    effect: Label | None = None
    arguments: ArgumentsSchema | None = None
    otherwise: Otherwise = field(default_factory=Otherwise)
    domain: str | None = None
    route: str | None = None
    message: str | None = None

    @property
    def exact(self) -> bool:
        """Whether it names one tool."""
        return not set("*?") & set(self.pattern)


@dataclass(frozen=True, slots=True)
class ToolRules:
    """The contracts of one file, the most specific first, and the effect on tools that none of them names."""

    default: Label = Label.ALLOW
    contracts: tuple[ToolContract, ...] = ()

    def find(self, name: str) -> ToolContract | None:
        """Return the contract for the tool ``name``: by exact name, else the glob with most letters, then A to Z."""
        for contract in self.contracts:
            if contract.pattern == name if contract.exact else fnmatchcase(name, contract.pattern):
                return contract
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds that a policy sets; None leaves the release's own."""

    refuse: float | None = None
    escalate: float | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """A layer of an organisation's file for the keys ``keys`` and those of ``owners``; None is what the file says.

    ``at`` is its place in the file.
    """

    name: str
    keys: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    domains: Mapping[str, DomainRule] = field(default_factory=dict)
    default_route: str | None = None
    tools: ToolRules = field(default_factory=ToolRules)
    rules: tuple[Rule, ...] = ()
    unjudged: Label | None = None
    at: Path = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """One file, an organisation's or the base. None is what the base says; the base itself says everything.

    ``permits_overrides`` are the domains in which rules may lower the model; ``recognisers`` are expressions of RE2 by
    the kind that they recognise.
    """

    name: str
    source: Source = field(compare=False, repr=False)
    language: Language | None = None
    mode: Mode | None = None
    permits_monitor: bool = False
    permits_overrides: tuple[str, ...] = ()
    release: str | None = None
    limits: Limits = field(default_factory=Limits)
    domains: Mapping[str, DomainRule] = field(default_factory=dict)
    default_route: str | None = None
    routes: Mapping[str, Route] = field(default_factory=dict)
    tools: ToolRules = field(default_factory=ToolRules)
    unjudged: Label | None = None
    shape: Shape | None = None
    escalation: Patience = field(default_factory=Patience)
    rules: tuple[Rule, ...] = ()
    recognisers: Mapping[str, str] = field(default_factory=dict)
    teams: Mapping[str, Team] = field(default_factory=dict)
    at: Path = field(default=(), compare=False)


def _pattern(_: Validator, pattern: str, instance: object, __: object) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not re.search(translate(pattern), instance):
        yield ValidationError("no match")


_Checker: Final = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def read_policy(data: bytes, file: str, *, base: bool = False) -> Policy:
    """Return the policy in ``data``; ``file`` is its name in problems.

    Raises PolicyError: with every problem of the file alone; ``merge`` finds those against the base.
    """
    source, problems = read_source(data, file)
    schema = BASE_SCHEMA if base else POLICY_SCHEMA
    for error in _Checker(schema).iter_errors(source.value):
        problems += problems_of(error, source)
    parts = _read_parts(source, problems)
    _check_recognisers(source, problems)
    _check_ids(source, parts, problems)
    if problems:
        raise error_of(problems)
    return _build(source, parts)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The contracts and rules of a file or of a team in it."""

    contracts: tuple[ToolContract, ...]
    rules: tuple[Rule, ...]


def _read_parts(source: Source, problems: list[Problem]) -> dict[str | None, _Parts]:
    """Return the parts of each team by its name, and those of the file itself by None."""
    value = source.value if isinstance(source.value, dict) else {}
    teams = value.get("teams")
    layers: dict[str | None, tuple[Path, Any]] = {None: ((), value)}
    layers |= {name: (("teams", name), team) for name, team in teams.items()} if isinstance(teams, dict) else {}
    parts = {}
    for name, (at, written) in layers.items():
        own = written if isinstance(written, dict) else {}
        layer = f"team:{name}" if name is not None else str(value.get("organization", value.get("name")))
        contracts = _read_contracts(source, (*at, "tools"), own.get("tools"), problems)
        parts[name] = _Parts(contracts, read_rules(source, (*at, "rules"), own.get("rules"), layer, problems))
        if name is not None and isinstance(written, dict) and not own.get("keys") and not own.get("owners"):
            problems.append(source.problem(at, f"the team `{name}` has nobody; add `keys` or `owners`", key=True))
    return parts


def _check_recognisers(source: Source, problems: list[Problem]) -> None:
    recognisers = source.value.get("recognisers") if isinstance(source.value, dict) else None
    for kind, value in recognisers.items() if isinstance(recognisers, dict) else ():
        at: Path = ("recognisers", kind)
        if kind in BUILT_IN:
            problems.append(source.problem(at, f"`{kind}` is recognised already; take another name", key=True))
        pattern = value.get("pattern") if isinstance(value, dict) else None
        if isinstance(pattern, str) and (what := own_pattern_problem(pattern)):
            problems.append(source.problem((*at, "pattern"), f"`{kind}`: {what}"))


def _check_ids(source: Source, parts: Mapping[str | None, _Parts], problems: list[Problem]) -> None:
    first: dict[str, Rule] = {}
    for rule in sorted((rule for one in parts.values() for rule in one.rules), key=lambda rule: source.places[rule.at]):
        if (other := first.setdefault(rule.id, rule)) is not rule:
            line = source.places[other.at][0]
            what = f"the rule `{rule.id}` stands twice, first on line {line}; give each its own `id`"
            problems.append(source.problem((*rule.at, "id"), what))


def _build(source: Source, parts: Mapping[str | None, _Parts]) -> Policy:
    value: dict[str, Any] = source.value
    safety = value.get("safety", {})
    permits = value.get("permits", {})
    return Policy(
        name=value["organization"] if "organization" in value else value["name"],
        source=source,
        language=value.get("language"),
        mode=value.get("mode"),
        permits_monitor=permits.get("monitor", False),
        permits_overrides=tuple(sorted(permits.get("overrides", ()))),
        release=safety.get("release"),
        limits=Limits(**safety.get("thresholds", {})),
        domains=_domains(value),
        default_route=value.get("default_route"),
        routes=MappingProxyType({name: _route(route) for name, route in sorted(value.get("routes", {}).items())}),
        tools=_tools(value, parts[None]),
        unjudged=_unjudged(value),
        shape=value.get("refusal", {}).get("shape"),
        escalation=_patience(value.get("escalation", {})),
        rules=parts[None].rules,
        recognisers=MappingProxyType(
            {kind: one["pattern"] for kind, one in sorted(value.get("recognisers", {}).items())}
        ),
        teams=MappingProxyType(
            {name: _team(name, team, parts[name]) for name, team in sorted(value.get("teams", {}).items())}
        ),
    )


def _team(name: str, value: Mapping[str, Any], parts: _Parts) -> Team:
    return Team(
        name,
        frozenset(value.get("keys", ())),
        frozenset(value.get("owners", ())),
        Limits(**value.get("safety", {}).get("thresholds", {})),
        _domains(value),
        value.get("default_route"),
        _tools(value, parts),
        parts.rules,
        _unjudged(value),
        ("teams", name),
    )


def _domains(value: Mapping[str, Any]) -> Mapping[str, DomainRule]:
    return MappingProxyType({name: _domain(rule) for name, rule in sorted(value.get("domains", {}).items())})


def _tools(value: Mapping[str, Any], parts: _Parts) -> ToolRules:
    return ToolRules(EFFECTS[value.get("tools", {}).get("default", "judge")], parts.contracts)


def _unjudged(value: Mapping[str, Any]) -> Label | None:
    written = value.get("failures", {}).get("unjudged")
    return EFFECTS[written] if written else None


def _domain(value: Mapping[str, Any]) -> DomainRule:
    return DomainRule(**{**value, "effect": EFFECTS[value["effect"]] if "effect" in value else None})


def _route(value: Mapping[str, Any]) -> Route:
    return Route(
        _seconds(value["due"]),
        EFFECTS[value["on_expired"]],
        tuple(value.get("reviewers", ())),
        tuple(map(_notice, value.get("notify", ()))),
        value.get("on_unreachable", "refuse"),
        value.get("cli", True),
    )


def _notice(value: Mapping[str, Any]) -> Notice:
    if "email" in value:
        return EmailNotice(tuple(value["email"]["to"]))
    if "slack" in value:
        return SlackNotice(value["slack"]["webhook"][2:-1])
    return WebhookNotice(value["webhook"]["url"][2:-1])


def _patience(value: Mapping[str, Any]) -> Patience:
    hold, stream_hold = (_seconds(value[key]) if key in value else None for key in ("hold", "stream_hold"))
    return Patience(hold, stream_hold, value.get("after_hold"))


def _seconds(value: str) -> int:
    return int(value[:-1]) * _SECONDS[value[-1]]


def _read_contracts(source: Source, under: Path, tools: object, problems: list[Problem]) -> tuple[ToolContract, ...]:
    """Return the contracts at ``under``, the most specific first; a file with problems may lose some."""
    contracts = []
    for pattern, value in tools.items() if isinstance(tools, dict) else ():
        if not isinstance(value, dict):
            continue
        at = (*under, pattern, "arguments")
        schema = None
        if isinstance(written := value.get("arguments"), dict):
            schema, found = compile_schema(written)
            problems += [
                source.problem((*at, *path), what, key=_at_key(what))
                for path, what in found
                if not source.unread((*at, *path))
            ]
        if not problems:
            contracts.append(_contract(pattern, value, schema))
    return tuple(sorted(contracts, key=_specificity))


def _at_key(what: str) -> bool:
    return what.startswith("the schema key")


def _contract(pattern: str, value: Mapping[str, Any], schema: ArgumentsSchema | None) -> ToolContract:
    otherwise = value.get("otherwise")
    return ToolContract(
        pattern,
        EFFECTS[value["effect"]] if "effect" in value else None,
        schema,
        Otherwise(**{**otherwise, "effect": EFFECTS[otherwise["effect"]]}) if otherwise else Otherwise(),
        value.get("domain"),
        value.get("route"),
        value.get("message"),
    )


def _specificity(contract: ToolContract) -> tuple[bool, int, int, str]:
    pattern = contract.pattern
    letters = sum(char not in "*?" for char in pattern)
    return not contract.exact, -letters, -pattern.count("?"), pattern
