"""A policy against the recorded past: what it would have decided otherwise.

Recorded inputs hold no arguments of tool calls. A row whose decision could hang on them, then or now, is counted as not
replayable, and never guessed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.policy.engine import decide
from gateway.policy.inputs import facts_of_row
from gateway.policy.merge import EffectivePolicy
from gateway.verdict import Label, Scores, Thresholds

COLUMNS: Final = (
    "decision_id", "org", "at", "stage", "key_id", "label", "allow", "refuse", "escalate", "domain", "domains",
    "readings", "unjudged", "kinds", "tools", "calls", "turns", "risk", "judged_bytes", "limit_refuse",
    "limit_escalate", "effect", "decided_domain", "reasons",
)  # fmt: skip
"""What a replay reads of ``gateway.policy.inputs.COLUMNS``."""

EXAMPLES: Final = 5
_MEMO: Final = 200_000

Outcome = tuple[str, str | None, tuple[str, ...]]
"""Effect, domain and reasons of a decision."""

_EXACT: Final = ("verdict.", "conversation.risk", "now", "parts.judged_bytes")
"""What a condition can ask for that hardly ever is the same twice: rules that ask for it are evaluated row by row."""


@dataclass(slots=True)
class Flips:
    """How many decisions became others, each with examples of their ids."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, decision_id: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(decision_id)

    def join(self, other: "Flips") -> None:
        """Count another's, too."""
        self.count += other.count
        self.examples = (self.examples + other.examples)[:EXAMPLES]


@dataclass(slots=True)
class Report:
    """What a replay found. ``flips`` are by effect before and after; the others by what brought the new effect about.

    ``moved``: the effect is the same, the domain is another. ``skipped``: not replayable. A flip is counted once for
    each reason that is new (or gone, with ``-``) in its decision, so that ``rules`` can add up to more than ``flips``.
    """

    total: int = 0
    skipped: int = 0
    moved: int = 0
    flips: dict[tuple[str, str], Flips] = field(default_factory=dict)
    rules: dict[str, Flips] = field(default_factory=dict)
    domains: dict[str, Flips] = field(default_factory=dict)
    keys: dict[str, Flips] = field(default_factory=dict)
    after: Counter[str] = field(default_factory=Counter)

    @property
    def flipped(self) -> int:
        """How many decisions have another effect."""
        return sum(flips.count for flips in self.flips.values())

    def add(self, decision_id: str, key: str, before: Outcome, after: Outcome) -> None:
        """Count one decision that is otherwise now than before, or the same."""
        self.after[after[0]] += 1
        if before[0] == after[0]:
            self.moved += before[1] != after[1]
            return
        self.flips.setdefault((before[0], after[0]), Flips()).add(decision_id)
        gained = [reason for reason in after[2] if reason not in before[2]]
        lost = [f"-{reason}" for reason in before[2] if reason not in after[2]]
        for reason in gained + lost or ["model"]:
            self.rules.setdefault(reason, Flips()).add(decision_id)
        self.domains.setdefault(after[1] or before[1] or "none", Flips()).add(decision_id)
        self.keys.setdefault(key, Flips()).add(decision_id)

    def join(self, other: "Report") -> None:
        """Count another's, too."""
        self.total += other.total
        self.skipped += other.skipped
        self.moved += other.moved
        self.after += other.after
        for name in ("flips", "rules", "domains", "keys"):
            mine: dict[Any, Flips] = getattr(self, name)
            for key, flips in getattr(other, name).items():
                mine.setdefault(key, Flips()).join(flips)


class Player:
    """Decides recorded inputs by ``policy``. ``owners`` are the owners of keys, for teams and conditions.

    Rows that the policy cannot tell apart are decided once: what of the scores counts is the label that they give and
    the likeliest domain of that label, unless a rule asks for more. ``exact`` decides every row by itself.
    """

    def __init__(self, policy: EffectivePolicy, owners: Mapping[str, str], *, exact: bool = False) -> None:
        self._policy = policy
        self._owners = owners
        self._within: dict[str, EffectivePolicy] = {}
        self._memo: dict[tuple[Any, ...], Outcome] = {}
        self._needs: dict[tuple[tuple[str, ...], str], bool] = {}
        written = [rule.when.written for rule in (*policy.rules, *(r for t in policy.teams.values() for r in t.rules))]
        self._exact = exact or any(word in text for text in written for word in _EXACT)
        self._by_key = any("principal" in text for text in written)
        self._by_parts = any(word in text for text in written for word in ("parts.", "conversation."))
        self._asks_arguments = any("tool.arguments" in text for text in written)

    def play(self, row: Mapping[str, Any]) -> Outcome | None:
        """Return what the policy decides about a row; None where that hangs on arguments that were not kept."""
        policy = self._policy_of(row["key_id"])
        calls = row["calls"]
        if calls != "[]" and row["stage"] == "response" and self._needs_arguments(policy, calls):
            return None
        signature = None if self._exact else self._signature(policy, row)
        if signature is not None and (found := self._memo.get(signature)) is not None:
            return found
        facts = facts_of_row(row, self._owners.get(row["key_id"], ""))
        decision = decide(policy, facts, decision_id="")
        outcome = (decision.effect.value, decision.domain, tuple(reason.id for reason in decision.reasons))
        if signature is not None and len(self._memo) < _MEMO:
            self._memo[signature] = outcome
        return outcome

    def _policy_of(self, key: str) -> EffectivePolicy:
        if (found := self._within.get(key)) is None:
            policy = self._policy
            found = self._within[key] = policy.within(policy.teams_of(key, self._owners.get(key, "")))
        return found

    def _needs_arguments(self, policy: EffectivePolicy, calls: str) -> bool:
        if self._asks_arguments:
            return True
        at = (policy.layers, calls)
        if (found := self._needs.get(at)) is None:
            contracts = [rules.find(name) for name in orjson.loads(calls) for rules in policy.tools]
            found = self._needs[at] = any(one is not None and one.arguments is not None for one in contracts)
        return found

    def _signature(self, policy: EffectivePolicy, row: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return what the policy can see of a row; None for scores that are no probabilities."""
        limits = (row["limit_refuse"], row["limit_escalate"])
        release = None if None in limits else Thresholds(*limits)
        thresholds = policy.thresholds(release)
        first = _label(thresholds, row["allow"], row["refuse"], row["escalate"])
        if first is None:
            return None
        label = max(first, Label(row["label"]), key=lambda one: one.severity)
        domains = None if label is Label.ALLOW else _likeliest(policy, label, orjson.loads(row["domains"]))
        read: list[Any] = [(label, domains)]
        if row["readings"] != "[]":
            for allow, refuse, escalate, scores in orjson.loads(row["readings"]):
                own = _label(thresholds, allow, refuse, escalate)
                if own is None:
                    return None
                read.append((own, None if own is Label.ALLOW else _likeliest(policy, own, scores)))
        more = (row["kinds"], row["tools"], row["turns"]) if self._by_parts else None
        key = row["key_id"] if self._by_key else None
        told = (row["stage"], row["label"], row["domain"], row["unjudged"] != "[]", row["calls"])
        unjudged = row["unjudged"] if self._by_parts else None
        return (policy.layers, *told, tuple(read), key, more, unjudged)


def replay(rows: Iterator[Mapping[str, Any]], new: Player, old: Player | None = None) -> Report:
    """Return how ``new`` decides ``rows`` otherwise than what was recorded, or than ``old`` does."""
    report = Report()
    for row in rows:
        report.total += 1
        reasons = row["reasons"]
        if ":arguments" in reasons:
            report.skipped += 1
            continue
        before: Outcome | None = (
            (row["effect"], row["decided_domain"], tuple(orjson.loads(reasons))) if old is None else old.play(row)
        )
        after = None if before is None else new.play(row)
        if before is None or after is None:
            report.skipped += 1
            continue
        report.add(row["decision_id"], row["key_id"], before, after)
    return report


def rows_of(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch of columns."""
    names = tuple(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _label(thresholds: Thresholds, allow: float, refuse: float, escalate: float) -> Label | None:
    if abs(allow + refuse + escalate - 1) > 0.009 or min(allow, refuse, escalate) < 0:
        return None
    return thresholds.label(Scores(allow, refuse, escalate))


def _likeliest(policy: EffectivePolicy, label: Label, scores: Mapping[str, float]) -> str | None:
    best: tuple[float, str] | None = None
    for name, score in scores.items():
        domain = policy.domains.get(name)
        if domain is not None and domain.label is label and (best is None or (score, name) > best):
            best = (score, name)
    return best[1] if best else None


def plain(report: Report, most: int = 20) -> dict[str, Any]:
    """Return the report as JSON has it, of each kind the ``most`` most frequent."""
    return {
        "total": report.total,
        "replayed": report.total - report.skipped,
        "not_replayable": report.skipped,
        "flipped": report.flipped,
        "moved": report.moved,
        "after": dict(sorted(report.after.items())),
        "flips": [
            {"before": before, "after": after, "count": flips.count, "examples": flips.examples}
            for (before, after), flips in ranked(report.flips)
        ],
        **{
            name: [
                {"name": key, "count": flips.count, "examples": flips.examples}
                for key, flips in ranked(getattr(report, name))[:most]
            ]
            for name in ("rules", "domains", "keys")
        },
    }


def ranked(flips: Mapping[Any, Flips]) -> list[tuple[Any, Flips]]:
    """Return ``flips``, the most frequent first."""
    return sorted(flips.items(), key=lambda item: (-item[1].count, str(item[0])))
