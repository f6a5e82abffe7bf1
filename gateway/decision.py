"""The decision: what the policy says about a verdict."""

from dataclasses import dataclass

from gateway.verdict import Label

Effect = Label
"""A decision's effect has the same three values and the same severity order as a label."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that fired: its id (``model``, ``tool:send_email``, ``unjudged`` ...), effect, and message."""

    id: str
    effect: Effect
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one policy evaluation: the most severe effect of all reasons.

    ``message`` is what people and clients see when a rule or tool contract decided; None when the model decided.
    ``enforced`` is False in monitor mode: the decision is recorded and the gateway acts as for ALLOW.
    """

    id: str
    effect: Effect
    domain: str | None
    route: str | None
    reasons: tuple[Reason, ...]
    policy: str
    revision: str
    message: str | None = None
    errors: tuple[str, ...] = ()
    enforced: bool = True
