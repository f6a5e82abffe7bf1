"""Pictures as SVG, small enough to write by hand: an explanation as a ladder of steps, counts as bars."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from gateway.policy.explanation import Explanation, shown, summary, wins
from gateway.verdict import Label

_COLOURS: Final = {Label.ALLOW: "#2e7d32", Label.ESCALATE: "#b26a00", Label.REFUSE: "#b3261e"}
_GREY: Final = "#8a8f98"
_INK: Final = "#1d2127"
_LINE: Final = 26
_WIDTH: Final = 960
_STYLE: Final = (
    "text{font:13px system-ui,'Noto Sans CJK JP',sans-serif;fill:" + _INK + "}.small{font-size:11px;fill:#5b616b}"
    ".head{font-size:20px;font-weight:600}.bold{font-weight:600}"
)


def draw_explanation(explanation: Explanation) -> str:
    """Return the picture of an explanation: what was tried from top to bottom, what held, and what won."""
    effect = explanation.decision.effect
    parts = [_rect(0, 0, _WIDTH, 6, _COLOURS[effect]), _text(24, 42, effect.value, "head", _COLOURS[effect])]
    y = 66
    for name, value in summary(explanation):
        parts += [_text(24, y, name, "small"), _text(120, y, _cut(value, 105))]
        y += 20
    y += 14
    for step in explanation.steps:
        held = step.held is not False and step.effect is not None and step.effect is not Label.ALLOW
        colour = _COLOURS[step.effect] if held and step.effect is not None else _GREY
        won = wins(explanation, step)
        if won:
            parts.append(_rect(12, y - 17, _WIDTH - 24, _LINE, colour, opacity=0.12))
        parts.append(f'<circle cx="28" cy="{y - 5}" r="6" fill="{colour if held else "none"}" stroke="{colour}"/>')
        parts.append(_text(46, y, _cut(step.gate, 34), "bold" if won else ""))
        parts.append(_text(300, y, _cut(step.layer, 20), "small"))
        parts.append(_text(430, y, _cut(step.why, 78)))
        y += _LINE
        for term in step.terms if len(step.terms) > 1 else ():
            word = {True: "true", False: "false", None: "error"}[term.value]
            parts += [_text(446, y, word, "small"), _text(490, y, _cut(term.text, 72), "small")]
            y += 20
    return _svg(_WIDTH, y + 6, parts, f"{effect.value}, decided by {explanation.won}")


def draw_bars(title: str, groups: Mapping[str, Sequence[tuple[str, int]]]) -> str:
    """Return bars: for each group its labels with their counts, the longest bar of all is full."""
    most = max((count for bars in groups.values() for _, count in bars), default=1)
    parts = [_text(24, 40, title, "head")]
    y = 74
    for group, bars in groups.items():
        parts.append(_text(24, y, group, "bold"))
        y += 24
        for label, number in bars:
            parts.append(_text(40, y, _cut(label, 44)))
            parts.append(_rect(360, y - 12, max(2, round(480 * number / most)), 16, _bar(label)))
            parts.append(_text(368 + max(2, round(480 * number / most)), y, f"{number:,}", "small"))
            y += 24
        if not bars:
            parts.append(_text(40, y, "none", "small"))
            y += 24
        y += 10
    return _svg(_WIDTH, y, parts, title)


def _bar(label: str) -> str:
    """Return the colour of a flip by where it goes to; one colour for everything else."""
    found = [effect for effect in Label if label.endswith(effect.value)]
    return _COLOURS[found[0]] if found else "#4a6fa5"


def _svg(width: int, height: int, parts: Iterable[str], title: str) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">\n<title>{_safe(title)}</title>\n<style>{_STYLE}</style>\n'
        f"{_rect(0, 0, width, height, '#ffffff')}\n{inside}\n</svg>\n"
    )


def _text(x: int, y: int, text: str, kind: str = "", colour: str = "") -> str:
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{style}>{_safe(text)}</text>'


def _rect(x: int, y: int, width: int, height: int, colour: str, opacity: float = 1) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}" fill-opacity="{opacity}"/>'


def _safe(text: str) -> str:
    return escape(shown(text))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
