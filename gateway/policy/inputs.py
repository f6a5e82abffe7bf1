"""What a decision was made from, without any text: enough to decide it again by another policy.

Kept in an erasable table beside the log. Names of tools and kinds of parts are kept, arguments and texts are not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.decision import Decision
from gateway.parts import ToolCall, Unjudged
from gateway.policy.engine import Facts
from gateway.principal import Principal
from gateway.verdict import Label, Reading, Scores, Thresholds, Verdict

COLUMNS: Final = (
    "decision_id", "org", "at", "stage", "key_id", "label", "allow", "refuse", "escalate", "domain", "domains",
    "readings", "unjudged", "kinds", "tools", "calls", "turns", "risk", "judged_bytes", "limit_refuse",
    "limit_escalate", "effect", "decided_domain", "route", "reasons", "policy", "revision", "shadow_effect",
    "shadow_reasons", "shadow_revision", "acted",
)  # fmt: skip
"""In the order of the table. Lists and mappings are JSON; ``at`` is milliseconds since the epoch, UTC."""

MAX_READINGS: Final = 256
MAX_NAMES: Final = 64
_NAME: Final = 128
_DIGITS: Final = 6


def input_row(
    facts: Facts, decision: Decision, at: int, *, shadow: Decision | None = None, acted: str = "current"
) -> dict[str, Any]:
    """Return the row of a decision: COLUMNS by name. ``facts`` need a principal.

    ``shadow`` is what a second bundle decided beside it, ``acted`` (``current`` or ``shadow``) the one enforced.
    Of more readings than MAX_READINGS the worst are kept; scores are rounded to six digits.
    """
    if facts.principal is None:
        raise ValueError("a row needs a principal")
    verdict, limits = facts.verdict, facts.thresholds
    worst = sorted(verdict.readings, key=lambda one: one.scores.allow)[:MAX_READINGS]
    return {
        "decision_id": decision.id,
        "org": facts.principal.organization,
        "at": at,
        "stage": facts.stage,
        "key_id": facts.principal.key_id,
        "label": verdict.label.value,
        "allow": round(float(verdict.scores.allow), _DIGITS),
        "refuse": round(float(verdict.scores.refuse), _DIGITS),
        "escalate": round(float(verdict.scores.escalate), _DIGITS),
        "domain": verdict.domain,
        "domains": _json(_rounded(verdict.domains)),
        "readings": _json([[*_scores(one.scores), _rounded(one.domains)] for one in worst]),
        "unjudged": _json(_names([one.reason for one in verdict.unjudged])),
        "kinds": _json(_names(facts.kinds)),
        "tools": _json(_names(facts.tools)),
        "calls": _json(_names([call.name for call in facts.tool_calls])),
        "turns": facts.turns,
        "risk": facts.risk,
        "judged_bytes": verdict.judged_bytes,
        "limit_refuse": limits.refuse if limits else None,
        "limit_escalate": limits.escalate if limits else None,
        "effect": decision.effect.value,
        "decided_domain": decision.domain,
        "route": decision.route,
        "reasons": _json([reason.id for reason in decision.reasons]),
        "policy": decision.policy,
        "revision": decision.revision,
        "shadow_effect": shadow.effect.value if shadow else None,
        "shadow_reasons": _json([reason.id for reason in shadow.reasons]) if shadow else None,
        "shadow_revision": shadow.revision if shadow else None,
        "acted": acted,
    }


def facts_of_row(row: Mapping[str, Any], owner: str = "") -> Facts:
    """Return the facts of a row, each proposed call with empty arguments: those of the wire are not kept."""
    limits = None
    if row["limit_refuse"] is not None and row["limit_escalate"] is not None:
        limits = Thresholds(row["limit_refuse"], row["limit_escalate"])
    verdict = Verdict(
        label=Label(row["label"]),
        scores=Scores(row["allow"], row["refuse"], row["escalate"]),
        domain=row["domain"],
        domains=orjson.loads(row["domains"]),
        pointer="",
        release="",
        release_digest="",
        template=0,
        judged_bytes=row["judged_bytes"],
        readings=tuple(
            Reading("", Scores(allow, refuse, escalate), domains)
            for allow, refuse, escalate, domains in orjson.loads(row["readings"])
        ),
        unjudged=tuple(Unjudged("", reason) for reason in orjson.loads(row["unjudged"])),
    )
    return Facts(
        row["stage"],
        verdict,
        tuple(ToolCall(name, "{}", "") for name in orjson.loads(row["calls"])),
        limits,
        principal=Principal(row["org"], row["key_id"], owner),
        kinds=tuple(orjson.loads(row["kinds"])),
        tools=tuple(orjson.loads(row["tools"])),
        turns=row["turns"],
        risk=row["risk"],
        now=row["at"],
    )


def _scores(scores: Scores) -> list[float]:
    return [round(float(value), _DIGITS) for value in (scores.allow, scores.refuse, scores.escalate)]


def _rounded(domains: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(score), _DIGITS) for name, score in domains.items()}


def _names(names: Sequence[str]) -> list[str]:
    """Return ``names`` as they are kept: not longer than a tool's name may be, and not endlessly many."""
    return [name[:_NAME] for name in names[:MAX_NAMES]]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
