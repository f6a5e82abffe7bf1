"""Redaction: what a policy names is replaced by a placeholder before it goes out, and put back in the reply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import re2  # type: ignore[import-untyped]

from gateway.decision import Redact
from gateway.policy.recognisers import recognise

MAX_PLACEHOLDER: Final = 48
_PLACEHOLDER: Final = re2.compile(r"\[[A-Z][A-Z0-9_]*_[0-9]+\]")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text with placeholders, and what each stands for: of this text and of those before it."""

    text: str
    originals: Mapping[str, str] = field(default_factory=dict)


def redact(text: str, obligation: Redact, before: Mapping[str, str] | None = None, avoid: str = "") -> Redacted:
    """Return ``text`` with everything replaced that ``obligation`` names; the same value gets the same placeholder.

    ``before`` are the originals of the request's earlier texts; a placeholder that stands in ``text`` or ``avoid`` (the
    whole request) as it came is not used, so that restoring gives back nothing else than what was taken.
    """
    originals = dict(before or {})
    known = {original: placeholder for placeholder, original in originals.items()}
    taken = {found.group() for source in (text, avoid) for found in _PLACEHOLDER.finditer(source)}
    counts: dict[str, int] = {}
    pieces, end = [], 0
    for span in recognise(text, obligation.kinds, dict(obligation.patterns)):
        original = text[span.start : span.end]
        if original not in known:
            number = counts.get(span.kind, 0) + 1
            while (placeholder := f"[{span.kind.upper()}_{number}]") in originals or placeholder in taken:
                number += 1
            counts[span.kind] = number
            originals[placeholder] = original
            known[original] = placeholder
        pieces += [text[end : span.start], known[original]]
        end = span.end
    return Redacted("".join([*pieces, text[end:]]), originals)


def _same(text: str) -> str:
    return text


def restore(text: str, originals: Mapping[str, str], escape: Callable[[str], str] = _same) -> str:
    """Return ``text`` with each placeholder as what it stands for; ``escape`` fits that into where the text stands."""
    return str(_PLACEHOLDER.sub(lambda found: _original(found.group(), originals, escape), text)) if originals else text


def _original(placeholder: str, originals: Mapping[str, str], escape: Callable[[str], str]) -> str:
    original = originals.get(placeholder)
    return placeholder if original is None else escape(original)


class Restoration:
    """``restore`` over a text that comes in pieces; at most MAX_PLACEHOLDER characters are held back."""

    def __init__(self, originals: Mapping[str, str], escape: Callable[[str], str] = _same) -> None:
        self._originals = originals
        self._escape = escape
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what can be told of the text so far."""
        text = self._held + piece
        cut = text.rfind("[")
        if cut < 0 or "]" in text[cut:] or len(text) - cut > MAX_PLACEHOLDER:
            cut = len(text)
        self._held = text[cut:]
        return restore(text[:cut], self._originals, self._escape)

    def finish(self) -> str:
        """Return the rest."""
        rest, self._held = self._held, ""
        return rest
