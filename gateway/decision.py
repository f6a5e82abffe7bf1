"""The decision: what the policy says about a verdict."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

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
class Redact:
    """What is recognised as one of ``kinds`` is replaced before it goes out, with ``restore`` put back in the reply.

    ``patterns`` are the organisation's own, by the kind that they recognise: pairs of kind and expression.
    """

    name: ClassVar[str] = "redact"
    kinds: tuple[str, ...]
    restore: bool = False
    patterns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RestrictTools:
    """Only tools that *each* group of ``allow`` names, by name or glob, may be offered or called."""

    name: ClassVar[str] = "restrict_tools"
    allow: tuple[tuple[str, ...], ...]

    def allows(self, tool: str) -> bool:
        """Tell whether the tool may be offered and called."""
        return all(any(fnmatchcase(tool, pattern) for pattern in group) for group in self.allow)


@dataclass(frozen=True, slots=True)
class CapTokens:
    """The reply may have at most ``max`` tokens, reasoning included."""

    name: ClassVar[str] = "cap_tokens"
    max: int


@dataclass(frozen=True, slots=True)
class SystemNotice:
    """``text`` is put before the conversation as a system message."""

    name: ClassVar[str] = "system_notice"
    text: str


@dataclass(frozen=True, slots=True)
class RequireUpstream:
    """Only an upstream that the operator marks as trusted may answer."""

    name: ClassVar[str] = "require_upstream"
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Tag:
    """``word`` stands in the entry of the decision."""

    name: ClassVar[str] = "tag"
    word: str


Obligation = Redact | RestrictTools | CapTokens | SystemNotice | RequireUpstream | Tag
"""What must be done when something passes. Whoever enforces a decision and does not know one must refuse."""


@dataclass(frozen=True, slots=True)
class Lowering:
    """The rule ``rule`` lowered what the model said from ``before`` to ``after``, where the base permits it."""

    rule: str
    domain: str
    before: Effect
    after: Effect


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one policy evaluation: the most severe effect of all reasons.

    ``message`` is what people and clients see when a rule or tool contract decided; None when the model decided.
    ``enforced`` is False in monitor mode: the decision is recorded and the gateway acts as for ALLOW.
    ``approvals`` is how many reviewers must approve where the effect is ESCALATE, the most of everything that fired.
    ``obligations`` hold for what passes: on ALLOW at once, on ESCALATE once people approve; none on REFUSE.
    ``teams`` are the layers that were applied over the organisation's file.
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
    approvals: int = 1
    obligations: tuple[Obligation, ...] = ()
    lowered: tuple[Lowering, ...] = ()
    teams: tuple[str, ...] = ()
