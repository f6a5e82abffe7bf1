"""Rules: conditions, and what holds where they hold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.decision import Obligation, Redact
from gateway.policy.conditions import Condition, compile_condition
from gateway.policy.obligations import read_obligation
from gateway.policy.source import Path, Problem, Source
from gateway.verdict import Label

RULE_EFFECTS: Final = {"allow": Label.ALLOW, "escalate": Label.ESCALATE, "refuse": Label.REFUSE}


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds where ``when`` holds. A stop only adds to what else stops; ``obligations`` hold for what passes.

    ``overrides``: it lowers the model's own ESCALATE for ``domain`` to ALLOW, where the base permits it. ``layer`` is
    the file or team that it belongs to, ``at`` its place in that file.
    """

    id: str
    when: Condition
    effect: Label
    domain: str | None = None
    route: str | None = None
    message: str | None = None
    overrides: bool = False
    obligations: tuple[Obligation, ...] = ()
    layer: str = field(default="", compare=False)
    at: Path = field(default=(), compare=False)


def read_rules(source: Source, under: Path, value: object, layer: str, problems: list[Problem]) -> tuple[Rule, ...]:
    """Return the rules of the list ``value`` at ``under``, by id; ``problems`` get what no schema sees."""
    rules = []
    for index, written in enumerate(value if isinstance(value, list) else ()):
        at: Path = (*under, index)
        when = written.get("when") if isinstance(written, dict) else None
        if not isinstance(when, str) or not isinstance(written.get("id"), str) or source.unread(at):
            continue
        condition, found = compile_condition(when)
        problems += [source.inside((*at, "when"), one.offset, f"`{written['id'][:64]}`: {one.what}") for one in found]
        contradictions = [source.problem((*at, key), what) for key, what in _contradictions(written)]
        problems += contradictions
        if condition is not None and not contradictions and not problems:
            rules.append(_rule(written, condition, layer, at))
    return tuple(sorted(rules, key=lambda rule: rule.id))


def _contradictions(written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what does not fit together, by key."""
    allows, overrides = written.get("effect") == "allow", "overrides" in written
    if overrides and not allows:
        yield "overrides", "`overrides` stands with `effect: allow` only: it lowers what the model says"
    elif overrides and "domain" not in written:
        yield "overrides", "`overrides` needs `domain`: the one in which the model's ESCALATE is lowered"
    if allows and not overrides:
        if not written.get("obligations"):
            yield "effect", "a rule that allows does nothing alone; add `overrides: model` or `obligations`"
        for key in ("domain", "message"):
            if key in written:
                yield key, f"`{key}` says nothing where `effect: allow` overrides nothing; remove it"
    if "route" in written and written.get("effect") != "escalate":
        yield "route", "`route` is where cases go; it stands with `effect: escalate` only"
    if written.get("obligations") and written.get("effect") == "refuse":
        yield "obligations", "`obligations` hold for what passes; a rule that refuses has none"


def _rule(written: Mapping[str, Any], condition: Condition, layer: str, at: Path) -> Rule:
    return Rule(
        written["id"],
        condition,
        RULE_EFFECTS[written["effect"]],
        written.get("domain"),
        written.get("route"),
        written.get("message"),
        "overrides" in written,
        tuple(map(read_obligation, written.get("obligations", ()))),
        layer,
        at,
    )


def redacted_kinds(rule: Rule) -> Iterator[tuple[Path, str]]:
    """Return the kinds that the rule redacts, each with its place in the file."""
    for index, obligation in enumerate(rule.obligations):
        if isinstance(obligation, Redact):
            for kind in obligation.kinds:
                yield (*rule.at, "obligations", index, "redact", "kinds"), kind
