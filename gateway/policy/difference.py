"""What changes from one policy to another: each part that was added, removed, tightened, loosened or changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, Literal

from gateway.policy.arguments import ArgumentsSchema
from gateway.policy.conditions import Condition
from gateway.policy.document import Team, ToolRules
from gateway.policy.merge import EffectivePolicy
from gateway.policy.rules import Rule
from gateway.verdict import Label

Kind = Literal["added", "removed", "changed"]
Direction = Literal["tightened", "loosened", "mixed", "neutral", "unclear"]

_TIGHTER_WHEN_LOWER: Final = {"refuse", "escalate"}
_TIGHTER_WHEN_HIGHER: Final = {"approvals"}
_WORDS: Final[Mapping[str, tuple[Any, ...]]] = {
    "mode": ("monitor", "enforce"),
    "on_unreachable": ("wait", "refuse"),
    "cli": (True, False),
}
"""Words from the laxer to the stricter."""

_NEUTRAL: Final = {"message", "language", "shape", "release", "default_route", "route", "domain", "escalation"}
"""What tells people something or sends a case elsewhere, and stops neither more nor less."""


@dataclass(frozen=True, slots=True)
class Change:
    """One part of a policy that is another now; ``details`` has each value in it, before and after (None: not set)."""

    part: str
    kind: Kind
    direction: Direction
    details: tuple[tuple[str, Any, Any], ...]


def compare(old: EffectivePolicy, new: EffectivePolicy) -> tuple[Change, ...]:
    """Return what is different in ``new``, A to Z. The direction is told only where it is certain."""
    before, after = _parts(old), _parts(new)
    return tuple(
        _change(part, before.get(part), after.get(part))
        for part in sorted(before.keys() | after.keys())
        if before.get(part) != after.get(part)
    )


def _change(part: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Change:
    keys = sorted({**(before or {}), **(after or {})})
    details = tuple(
        (key, old, new)
        for key in keys
        if (old := (before or {}).get(key)) != (new := (after or {}).get(key)) or before is None or after is None
    )
    if before is not None and after is not None:
        details = tuple(inner for one in details for inner in _inside(*one))
    kind: Kind = "added" if before is None else "removed" if after is None else "changed"
    whole = _whole(part, after if before is None else before) if kind != "changed" else None
    if whole is not None:
        flipped: dict[Direction, Direction] = {"tightened": "loosened", "loosened": "tightened"}
        direction = whole if kind == "added" else flipped.get(whole, whole)
    else:
        direction = _together([_direction(part, *one) for one in details])
    return Change(part, kind, direction, details)


def _inside(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield only what differs inside of two mappings, each with its path."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        yield key, old, new
        return
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield from _inside(f"{key}.{name}", old.get(name), new.get(name))


def _whole(part: str, value: Mapping[str, Any] | None) -> Direction | None:
    """Return what adding the whole part does; None where its values say."""
    if value is None:
        return None
    section = part.split(".")[-2] if "." in part else part
    if section == "rules":
        if value["overrides"]:
            return "loosened"
        return "tightened" if value["effect"] != "ALLOW" or value["obligations"] else "neutral"
    if section in ("routes", "recognisers"):
        return "neutral"
    if section == "tools" and not part.endswith(".default"):
        # A contract takes the place of the default and of wider patterns.
        return "tightened" if value["effect"] == "REFUSE" else "unclear"
    return None


def _together(directions: list[Direction]) -> Direction:
    found = set(directions) - {"neutral"}
    if not found:
        return "neutral"
    if "unclear" in found:
        return "unclear"
    return found.pop() if len(found) == 1 else "mixed"


def _direction(part: str, key: str, old: Any, new: Any) -> Direction:
    name = key.rpartition(".")[2]
    if key == "default_route" or name in _NEUTRAL or part in _NEUTRAL:
        return "neutral"
    if part == "thresholds" and name in _TIGHTER_WHEN_LOWER:
        return _order(old is None or (new is not None and new < old))
    if name in _TIGHTER_WHEN_HIGHER:
        return _order((new or 1) > (old or 1))
    if name in _WORDS:
        order = _WORDS[name]
        return _order(order.index(new) > order.index(old)) if old in order and new in order else "unclear"
    if name in ("effect", "default", "unjudged"):
        return _order(_severity(new) > _severity(old))
    return "unclear"


def _order(tighter: bool) -> Direction:
    return "tightened" if tighter else "loosened"


def _severity(value: Any) -> int:
    return Label(value).severity if value else 0


def _parts(policy: EffectivePolicy) -> dict[str, dict[str, Any]]:
    """Return the policy as parts of values that compare and print."""
    parts: dict[str, dict[str, Any]] = {
        "mode": {"mode": policy.mode},
        "language": {"language": policy.language},
        "release": {"release": policy.release},
        "thresholds": {"refuse": policy.limits.refuse, "escalate": policy.limits.escalate},
        "default_route": {"default_route": policy.default_route},
        "failures": {"unjudged": policy.unjudged.value},
        "refusal": {"shape": policy.shape},
        "escalation": _values(policy.escalation),
    }
    parts |= {f"domains.{name}": _values(domain) for name, domain in policy.domains.items()}
    parts |= {f"routes.{name}": _values(route) for name, route in policy.routes.items()}
    for under, rules in zip(("base.", ""), policy.tools, strict=False):
        parts |= _tools(under, rules)
    parts |= {f"rules.{rule.id}": _rule(rule) for rule in policy.rules}
    parts |= {f"recognisers.{name}": {"pattern": pattern} for name, pattern in policy.recognisers.items()}
    for name, team in policy.teams.items():
        parts |= _team(f"teams.{name}", team)
    return parts


def _tools(under: str, rules: ToolRules) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {f"{under}tools.default": {"default": rules.default.value}}
    return parts | {f"{under}tools.{one.pattern}": _values(one) for one in rules.contracts}


def _team(under: str, team: Team) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {
        under: {"keys": sorted(team.keys), "owners": sorted(team.owners), "default_route": team.default_route},
        f"{under}.failures": {"unjudged": team.unjudged.value if team.unjudged else None},
        f"{under}.thresholds": {"refuse": team.limits.refuse, "escalate": team.limits.escalate},
    }
    parts |= {f"{under}.domains.{name}": _values(rule) for name, rule in team.domains.items()}
    return parts | _tools(f"{under}.", team.tools) | {f"{under}.rules.{rule.id}": _rule(rule) for rule in team.rules}


def _rule(rule: Rule) -> dict[str, Any]:
    shown = {"id", "layer", "at"}
    return {item.name: _plain(getattr(rule, item.name)) for item in fields(rule) if item.name not in shown}


def _values(value: Any) -> dict[str, Any]:
    return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}


def _plain(value: Any) -> Any:
    match value:
        case Label():
            return value.value
        case Condition():
            return value.written
        case ArgumentsSchema():
            return value.written
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case tuple() | list() | frozenset():
            return [_plain(item) for item in (sorted(value) if isinstance(value, frozenset) else value)]
        case _ if is_dataclass(value) and not isinstance(value, type):
            name = getattr(value, "name", None)
            return ({"name": name} if isinstance(name, str) else {}) | _values(value)
        case _:
            return value


def tell(changes: tuple[Change, ...]) -> Iterator[str]:
    """Yield the changes in lines for people."""
    signs = {"added": "+", "removed": "-", "changed": "~"}
    for change in changes:
        word = "" if change.direction == "neutral" else f"  {change.direction}"
        yield f"{signs[change.kind]} {change.part}{word}"
        for key, old, new in change.details:
            if change.kind == "changed":
                yield f"    {key}: {_shown(old)} -> {_shown(new)}"
            elif (value := old if change.kind == "removed" else new) not in (None, [], {}):
                yield f"    {key}: {_shown(value)}"


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    text = str(value)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:160])
