"""The verdict: what the Safety head says about a request or a proposed action."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from gateway.parts import Unjudged

Stage = Literal["request", "response"]


class Label(StrEnum):
    """ALLOW, ESCALATE (lawful, but a human of the organisation must decide) or REFUSE; compared by ``severity``."""

    ALLOW = "ALLOW"
    ESCALATE = "ESCALATE"
    REFUSE = "REFUSE"

    @property
    def severity(self) -> int:
        """0 for ALLOW, 1 for ESCALATE, 2 for REFUSE."""
        return _SEVERITY[self]


_SEVERITY = {Label.ALLOW: 0, Label.ESCALATE: 1, Label.REFUSE: 2}


@dataclass(frozen=True, slots=True)
class Scores:
    """Calibrated probabilities that sum to 1."""

    allow: float
    refuse: float
    escalate: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Label rule: REFUSE if refuse >= ``refuse``; else ESCALATE if refuse + escalate >= ``escalate``; else ALLOW."""

    refuse: float
    escalate: float

    def label(self, scores: Scores) -> Label:
        """Return the label of ``scores`` under these thresholds."""
        if scores.refuse >= self.refuse:
            return Label.REFUSE
        if scores.refuse + scores.escalate >= self.escalate:
            return Label.ESCALATE
        return Label.ALLOW


@dataclass(frozen=True, slots=True)
class Reading:
    """One read-out of the head: the part it ends at, its scores, and a score in [0, 1] for each domain."""

    pointer: str
    scores: Scores
    domains: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst of all readings of one request or reply.

    ``label`` follows the release's own thresholds. ``domain`` is the likeliest domain that belongs to the label, None
    for ALLOW. ``judged_bytes`` counts the UTF-8 bytes of all text that a reading covered. ``rationale`` is untrusted
    text (written under the text of whoever asked) and empty when none was asked for.
    """

    label: Label
    scores: Scores
    domain: str | None
    domains: Mapping[str, float]
    pointer: str
    release: str
    release_digest: str
    template: int
    judged_bytes: int
    readings: tuple[Reading, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    rationale: str = ""
    cached: bool = field(default=False, compare=False)
