"""Text that others wrote, with everything made visible that a page or a terminal would obey or hide."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

MAX_MARKS: Final = 3
"""How many combining marks a letter may carry before the rest is shown as marks of their own."""
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffd")
_NAMES: Final = {
    "\x00": "NULL",
    "\x07": "BELL",
    "\x08": "BACKSPACE",
    "\r": "CARRIAGE RETURN",
    "\x1b": "ESCAPE",
    "\x7f": "DELETE",
    "\x9b": "CONTROL SEQUENCE INTRODUCER",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run of plain text, or one character that is shown by its code; then ``name`` says what it is."""

    text: str
    name: str | None = None


def runs(text: str) -> Iterator[Run]:
    """Yield ``text`` in runs; together they hold every character of it, in order."""
    plain: list[str] = []
    marks, before = 0, ""
    for each in text.replace("\r\n", "\n"):
        marks = marks + 1 if unicodedata.combining(each) else 0
        if marks > MAX_MARKS or _hides(each, before):
            if plain:
                yield Run("".join(plain))
                plain = []
            yield Run(f"U+{ord(each):04X}", _name(each))
        else:
            plain.append(each)
        before = each
    if plain:
        yield Run("".join(plain))


def markup(text: str) -> Markup:
    """Return ``text`` as HTML: escaped, its hidden characters as labelled marks."""
    pieces = [
        escape(run.text)
        if run.name is None
        else Markup('<span class="hidden-character" title="{name}">{code}</span>').format(name=run.name, code=run.text)
        for run in runs(text)
    ]
    return Markup("").join(pieces)


def plain(text: str) -> str:
    """Return ``text`` for a terminal: hidden characters as ``<U+202E>``."""
    return "".join(run.text if run.name is None else f"<{run.text}>" for run in runs(text))


def count_hidden(text: str) -> int:
    """Return how many characters of ``text`` a reader would not have seen."""
    return sum(run.name is not None for run in runs(text))


def _hides(each: str, before: str) -> bool:
    if " " <= each <= "~" or each in "\n\t\u3000":
        return False
    if each in ("\ufe0e", "\ufe0f", "\u200d") and before and _pictures(before):
        return False  # part of an emoji
    category = unicodedata.category(each)
    return category[0] in "CZ" or each in _UNSEEN or _selects(each)


def _pictures(each: str) -> bool:
    return unicodedata.category(each) in ("So", "Sk") or each == "\ufe0f"


def _selects(each: str) -> bool:
    return "\ufe00" <= each <= "\ufe0f" or "\U000e0100" <= each <= "\U000e01ef" or "\u180b" <= each <= "\u180f"


def _name(each: str) -> str:
    found: str = unicodedata.name(each, "CONTROL OR UNASSIGNED CHARACTER")
    return _NAMES.get(each, found)
