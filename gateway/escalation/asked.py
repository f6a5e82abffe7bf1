"""What reviewers are told of a case beside its exact bytes: sealed with it as the payload ``asked``."""

from collections.abc import Sequence

import orjson

from gateway.decision import Decision
from gateway.parts import Unjudged
from gateway.verdict import Verdict


def asked(
    decision: Decision, verdict: Verdict, unjudged: Sequence[Unjudged], actions: Sequence[dict[str, object]] = ()
) -> bytes:
    """Return the JSON of the payload ``asked``.

    ``label``, ``scores``, ``domains``, ``pointer`` and ``release`` are the model's verdict, by its worst reading;
    ``rationale`` is untrusted model text; ``effect``, ``domain``, ``route``, ``message``, ``reasons`` and ``errors``
    are the policy's decision; ``unjudged`` is what the Safety head could not read. ``actions``, at the stage response,
    is what the model proposes, as it was judged: ``choice``, ``text`` and ``tool_calls`` (``name``, ``arguments``).
    """
    scores = verdict.scores
    return orjson.dumps(
        {
            "label": verdict.label.value,
            "scores": {"allow": scores.allow, "refuse": scores.refuse, "escalate": scores.escalate},
            "domains": dict(verdict.domains),
            "pointer": verdict.pointer,
            "release": verdict.release,
            "rationale": verdict.rationale,
            "effect": decision.effect.value,
            "domain": decision.domain,
            "route": decision.route,
            "message": decision.message,
            "reasons": [
                {"id": reason.id, "effect": reason.effect.value, "message": reason.message}
                for reason in decision.reasons
            ],
            "errors": list(decision.errors),
            "unjudged": [{"pointer": each.pointer, "reason": each.reason} for each in unjudged],
            "actions": list(actions),
        }
    )
