"""Obligations as a policy writes them, and several of them as one: the strictest."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.decision import (
    CapTokens,
    Obligation,
    Redact,
    RequireUpstream,
    RestrictTools,
    SystemNotice,
    Tag,
)

OBLIGATIONS: Final = frozenset(
    kind.name for kind in (Redact, RestrictTools, CapTokens, SystemNotice, RequireUpstream, Tag)
)
"""The names of all that a policy can ask for."""


def read_obligation(value: Mapping[str, Any]) -> Obligation:
    """Return the obligation of one item of ``obligations``, which fits the schema."""
    [(name, given)] = value.items()
    match name:
        case "redact":
            return Redact(tuple(sorted(set(given["kinds"]))), given.get("restore", False))
        case "restrict_tools":
            return RestrictTools((tuple(sorted(set(given["allow"]))),))
        case "cap_tokens":
            return CapTokens(given["max"])
        case "system_notice":
            return SystemNotice(given["text"])
        case "require_upstream":
            return RequireUpstream(given["trusted"])
        case "tag":
            return Tag(given["word"])
    raise ValueError(f"unknown obligation `{name}`")


def combine(obligations: Iterable[Obligation], patterns: Mapping[str, str]) -> tuple[Obligation, ...]:
    """Return the strictest of ``obligations``, in an order of its own; ``patterns`` recognise an organisation's kinds.

    Redacted is every kind that any names, and put back only where all say so; a tool must be allowed by each; the
    smallest cap holds; every notice and tag stands.
    """
    wanted = list(obligations)
    combined: list[Obligation] = []
    if redactions := [one for one in wanted if isinstance(one, Redact)]:
        kinds = tuple(sorted({kind for one in redactions for kind in one.kinds}))
        own = tuple((kind, patterns[kind]) for kind in kinds if kind in patterns)
        combined.append(Redact(kinds, all(one.restore for one in redactions), own))
    if groups := {group for one in wanted if isinstance(one, RestrictTools) for group in one.allow}:
        combined.append(RestrictTools(tuple(sorted(groups))))
    if caps := [one.max for one in wanted if isinstance(one, CapTokens)]:
        combined.append(CapTokens(min(caps)))
    combined += [SystemNotice(text) for text in sorted({one.text for one in wanted if isinstance(one, SystemNotice)})]
    if any(isinstance(one, RequireUpstream) for one in wanted):
        combined.append(RequireUpstream())
    combined += [Tag(word) for word in sorted({one.word for one in wanted if isinstance(one, Tag)})]
    return tuple(combined)
