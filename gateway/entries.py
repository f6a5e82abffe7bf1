"""What the audit log says of a decision and of its enforcement: closed words and numbers, never a client's text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.decision import Decision, Tag
from gateway.verdict import Stage, Verdict

SHA256: Final = "sha256:"
MAX_REASONS: Final = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a decision came from: the request's id, its route, the caller's key, the stage, and its own id."""

    request: str
    route: str
    key: str
    stage: Stage
    decision: str

    def fields(self) -> dict[str, Any]:
        """Return it as fields of an entry."""
        return {
            "request": self.request,
            "route": self.route,
            "key": self.key,
            "stage": self.stage,
            "decision": self.decision,
        }


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that stands for all."""
    return max(verdicts, key=lambda verdict: (verdict.label.severity, verdict.scores.refuse, verdict.scores.escalate))


def decision_fields(origin: Origin, decision: Decision, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the fields of an entry ``decision``; of several verdicts (one a choice) the worst stands for all."""
    worst = worst_verdict(verdicts)
    return (
        origin.fields()
        | {
            "effect": decision.effect.value,
            "enforced": decision.enforced,
            "domain": decision.domain,
            "route_to": None if decision.route is None else _token(decision.route),
            "reasons": [_token(reason.id) for reason in decision.reasons][:MAX_REASONS],
            "errors": len(decision.errors),
            "policy": _token(decision.policy),
            "revision": decision.revision.removeprefix(SHA256),
            "label": worst.label.value,
            "scores": {
                "allow": round(worst.scores.allow, 6),
                "refuse": round(worst.scores.refuse, 6),
                "escalate": round(worst.scores.escalate, 6),
            },
            "release": _token(worst.release),
            "release_digest": worst.release_digest.removeprefix(SHA256),
            "template": worst.template,
            "judged_bytes": sum(verdict.judged_bytes for verdict in verdicts),
            "unjudged": sum(len(verdict.unjudged) for verdict in verdicts),
            "verdicts": len(verdicts),
        }
        | _granted(decision)
    )


def _granted(decision: Decision) -> dict[str, Any]:
    """Return what a decision lowered, asks of what passes, and whom it heard: only what there is."""
    fields = {
        "lowered": [_token(f"{each.rule}:{each.domain}") for each in decision.lowered],
        "obligations": sorted({each.name for each in decision.obligations}),
        "tags": [_token(each.word) for each in decision.obligations if isinstance(each, Tag)],
        "teams": [_token(team) for team in decision.teams],
    }
    return {name: value for name, value in fields.items() if value}


def _token(text: str) -> str:
    """Return a policy's own word in the printable ASCII that an entry may hold."""
    return quote(text, safe="!\"#$&'()*+,/:;<=>?@[\\]^`{|}~")[:200]


def undecided_fields(origin: Origin, reason: str) -> dict[str, Any]:
    """Return the fields of an entry ``decision`` of a stage that got no verdict: nothing passed."""
    return origin.fields() | {"effect": None, "reasons": [f"judge:{reason}"]}


def enforcement_fields(
    request: str, decision: str, outcome: str, upstream_status: int | None, case: str | None = None
) -> dict[str, Any]:
    """Return the fields of an entry ``enforcement``: what was done about the last decision of a request.

    ``outcome`` is ``forwarded``, ``refused``, ``too_many_cases``, ``client_disconnected``, ``interrupted`` (the gateway
    stopped), ``upstream_error`` or the code of a failure; about a case ``held`` (its client was sent away or waits on
    in a case of the reply), ``released`` (a stored reply), ``replayed`` (a copy of the one answer), ``answered``,
    ``denied``, ``expired``, ``withdrawn``, ``failed`` or ``outcome_unknown``.
    """
    fields = {"request": request, "decision": decision, "outcome": outcome, "upstream_status": upstream_status}
    return fields if case is None else fields | {"case": case}
