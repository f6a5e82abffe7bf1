r"""Regular expressions of JSON Schema, which are ECMAScript's, in the terms of Python's ``re``.

Python's ``$`` also matches before a last newline, its ``\d`` and ``\w`` take all of Unicode, its ``.`` stops at fewer
line ends: each is a way past a gate, so each is written out. What the two languages read differently is refused, and
so are repetitions that can take exponential time.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.policy.repeats import check_repeats, parse

SPACE: Final = r"\t\n\x0b\x0c\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_ANY: Final = r"[^\n\r\u2028\u2029]"
_GROUPS: Final = ("(?:", "(?=", "(?!", "(?<=", "(?<!")
_SAME: Final = frozenset("dDwWbBtnrfv" + r"^$\.*+?()[]{}|/-")


@lru_cache(maxsize=1024)
def translate(pattern: str) -> str:
    """Return the Python expression that matches what ``pattern`` matches in ECMAScript.

    Raises ValueError: it does not compile, means different things to different readers, or can take exponential time.
    """
    mended = f"(?a:{''.join(_pieces(pattern))})"
    try:
        tree = parse(mended)
        re.compile(mended)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {getattr(error, 'msg', error)}") from None
    check_repeats(tree)
    return mended


def _pieces(pattern: str) -> Iterable[str]:
    index, inside = 0, False
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            piece, index = _escape(pattern, index, inside)
            yield piece
            continue
        if inside:
            inside = char != "]"
            _check_set(pattern, index)
            yield "\\[" if char == "[" else char
        elif char == "[":
            inside = True
            if pattern.startswith(("[]", "[^]"), index):
                raise ValueError("has an empty class; readers differ on it: write `\\]` for the bracket")
            yield char
        elif char == "(" and pattern.startswith("(?", index) and not pattern.startswith(_GROUPS, index):
            raise ValueError("has a group that JSON Schema does not have; use `(...)`, `(?:...)` or a look-around")
        elif pattern.startswith("{,", index):
            raise ValueError("has `{,`, which readers differ on; write `{0,`")
        elif char in "*+?}" and pattern[index + 1 : index + 2] == "+":
            raise ValueError("has a possessive repetition, which JSON Schema does not have; remove the second `+`")
        else:
            yield {"$": r"\Z", ".": _ANY}.get(char, char)
        index += 1


def _check_set(pattern: str, index: int) -> None:
    """Refuse ``&&``, ``--``, ``||`` and ``~~`` in a class, which are set operations in some languages."""
    if pattern[index] in "&|~-" and pattern[index + 1 : index + 2] == pattern[index]:
        raise ValueError(f"has `{pattern[index] * 2}` in a class; readers differ on it: write one")


_HEX: Final = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})")
_CODE_POINT: Final = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}")


def _escape(pattern: str, index: int, inside: bool) -> tuple[str, int]:
    following = pattern[index + 1 : index + 2]
    if found := _HEX.match(pattern, index):
        return found.group(), found.end()
    if (found := _CODE_POINT.match(pattern, index)) and (code := int(found.group(1), 16)) <= 0x10FFFF:
        return f"\\U{code:08x}", found.end()
    if following == "s":
        if inside and (pattern[index - 1] == "-" or pattern[index + 2 : index + 3] == "-"):
            raise ValueError("has a `-` beside `\\s` in a class; put the `-` elsewhere")
        return (SPACE if inside else f"[{SPACE}]"), index + 2
    if following == "S" and not inside:
        return f"[^{SPACE}]", index + 2
    if following and following in _SAME and not (inside and following == "B"):
        return "\\" + following, index + 2
    if following == "0" and not pattern[index + 2 : index + 3].isdigit():
        return r"\x00", index + 2
    raise ValueError(f"has `\\{following}`, which is not read here; see policies/README.md for what is")
