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
from gateway.policy.schema import BASE_SCHEMA, POLICY_SCHEMA
from gateway.policy.source import Problem, Source, error_of, read_source
from gateway.policy.violations import problems_of
from gateway.verdict import Label

Language = Literal["en", "ja"]
Mode = Literal["enforce", "monitor"]
Shape = Literal["content_filter", "error"]

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
class Route:
    """Where cases go. Without ``reviewers`` any reviewer of the organisation may decide."""

    due_s: int
    on_expired: Label = Label.REFUSE
    reviewers: tuple[str, ...] = ()
    notify: tuple[EmailNotice | SlackNotice, ...] = ()


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
class Policy:
    """One file, an organisation's or the base. None is what the base says; the base itself says everything."""

    name: str
    source: Source = field(compare=False, repr=False)
    language: Language | None = None
    mode: Mode | None = None
    permits_monitor: bool = False
    release: str | None = None
    limits: Limits = field(default_factory=Limits)
    domains: Mapping[str, DomainRule] = field(default_factory=dict)
    default_route: str | None = None
    routes: Mapping[str, Route] = field(default_factory=dict)
    tools: ToolRules = field(default_factory=ToolRules)
    unjudged: Label | None = None
    shape: Shape | None = None


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
    contracts = _read_contracts(source, problems)
    if problems:
        raise error_of(problems)
    return _build(source, contracts)


def _build(source: Source, contracts: tuple[ToolContract, ...]) -> Policy:
    value: dict[str, Any] = source.value
    safety = value.get("safety", {})
    unjudged = value.get("failures", {}).get("unjudged")
    return Policy(
        name=value["organization"] if "organization" in value else value["name"],
        source=source,
        language=value.get("language"),
        mode=value.get("mode"),
        permits_monitor=value.get("permits", {}).get("monitor", False),
        release=safety.get("release"),
        limits=Limits(**safety.get("thresholds", {})),
        domains=MappingProxyType({name: _domain(rule) for name, rule in sorted(value.get("domains", {}).items())}),
        default_route=value.get("default_route"),
        routes=MappingProxyType({name: _route(route) for name, route in sorted(value.get("routes", {}).items())}),
        tools=ToolRules(EFFECTS[value.get("tools", {}).get("default", "judge")], contracts),
        unjudged=EFFECTS[unjudged] if unjudged else None,
        shape=value.get("refusal", {}).get("shape"),
    )


def _domain(value: Mapping[str, Any]) -> DomainRule:
    return DomainRule(**{**value, "effect": EFFECTS[value["effect"]] if "effect" in value else None})


def _route(value: Mapping[str, Any]) -> Route:
    notices = [
        EmailNotice(tuple(notice["email"]["to"]))
        if "email" in notice
        else SlackNotice(notice["slack"]["webhook"][2:-1])
        for notice in value.get("notify", ())
    ]
    due_s = int(value["due"][:-1]) * _SECONDS[value["due"][-1]]
    return Route(due_s, EFFECTS[value["on_expired"]], tuple(value.get("reviewers", ())), tuple(notices))


def _read_contracts(source: Source, problems: list[Problem]) -> tuple[ToolContract, ...]:
    """Return the contracts, the most specific first; a file with problems may lose some."""
    tools = source.value.get("tools") if isinstance(source.value, dict) else None
    contracts = []
    for pattern, value in tools.items() if isinstance(tools, dict) else ():
        if not isinstance(value, dict):
            continue
        at = ("tools", pattern, "arguments")
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
