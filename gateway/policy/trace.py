"""What was tried for one decision, and why it held or not: for ``so8t policy explain``, never for the log."""

from dataclasses import dataclass, field

from gateway.verdict import Label


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a condition and what it came to; None: it could not be evaluated."""

    text: str
    value: bool | None


@dataclass(frozen=True, slots=True)
class Step:
    """One gate or rule that was tried.

    ``gate`` is the id that its reasons begin with, ``layer`` the file or team it belongs to (``base``, the
    organisation, ``team:NAME``), ``subject`` the name of the tool that it was tried for (the client's own text).
    ``held`` is None where it failed inside. ``effect`` is the most severe that it gave, None where it gave none.
    ``why`` is one sentence, ``terms`` the parts of a rule's condition.
    """

    gate: str
    layer: str
    subject: str | None
    held: bool | None
    effect: Label | None
    why: str
    terms: tuple[Term, ...] = ()


@dataclass(slots=True)
class Trace:
    """Collects the steps of one decision in the order in which they were tried. ``won`` is the reason that decided."""

    steps: list[Step] = field(default_factory=list)
    won: str | None = None
