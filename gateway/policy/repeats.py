"""How long a regular expression can take, read off the standard library's own parse tree."""

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

SMALL: Final = 64
"""Repetitions up to this many times are cheap."""
MAX_TEXT: Final = 4096
_WORK: Final = 20_000_000
"""Steps that one match may take: a fraction of a second."""
_SAMPLE: Final = (*range(0x250), 0x2028, 0x3042, 0x4E00, 0xFF11, 0x1F600)

Tree = Any
"""A sequence of pairs, a name and an argument."""

parse: Final = import_module("re._parser").parse


@lru_cache(maxsize=1024)
def longest_text(pattern: str) -> int:
    """Return how many characters a text may have that ``pattern``, in Python's terms, is searched in."""
    degree = max(1, _degree(list(parse(pattern))))
    return min(MAX_TEXT, int(_WORK ** (1 / degree)))


def _degree(tree: list[Any]) -> int:
    """Return the exponent, at most, of the time over the length of the text."""
    repeats = list(_repeats(tree, []))
    inner = tree
    while inner and str(inner[0][0]) == "SUBPATTERN":
        inner = list(inner[0][1][-1])
    anchored = bool(inner) and str(inner[0][0]) == "AT" and "BEGINNING" in str(inner[0][1])
    return sum(repeats) + (not anchored) + (not all(repeats))


def _repeats(items: list[Any], after: list[Any]) -> Iterator[bool]:
    """Tell of each long repetition whether it and what follows it can share characters."""
    for position, (name, argument) in enumerate(items):
        rest = [*items[position + 1 :], *after]
        if str(name) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] > SMALL:
            yield _shares(list(argument[-1]), rest)
        for child in _children(name, argument):
            yield from _repeats(list(child), rest)


def _shares(body: list[Any], rest: list[Any]) -> bool:
    if not rest or str(rest[0][0]) == "AT":
        return len(rest) > 1
    following = rest[0]
    if str(following[0]) not in ("LITERAL", "NOT_LITERAL", "IN"):
        return True
    if str(following[0]) == "LITERAL":
        return any(_may_match(item, following[1]) for item in body)
    return any(_may_match(following, code) and any(_may_match(item, code) for item in body) for code in _SAMPLE)


def check_repeats(tree: Tree) -> None:
    """Raise ValueError where a repetition can take exponential time."""
    for name, argument in tree:
        if str(name) in ("MAX_REPEAT", "MIN_REPEAT"):
            _, most, body = argument
            if most > SMALL:
                _check_body(list(body))
        for child in _children(name, argument):
            check_repeats(child)


def _check_body(body: list[Any]) -> None:
    """Refuse a repeated body that varies, unless a character of its own tells where each turn ends."""
    while len(body) == 1 and str(body[0][0]) == "SUBPATTERN":
        body = list(body[0][1][-1])
    if not any(_varies(item) for item in body):
        return
    for position, (name, argument) in enumerate(body):
        others = body[:position] + body[position + 1 :]
        if str(name) == "LITERAL" and not any(_may_match(item, argument) for item in others):
            return
    raise ValueError(
        "repeats a part that itself repeats or branches, which can take exponential time; "
        "set the turns apart by a character that the part cannot contain"
    )


def _children(name: object, argument: Any) -> list[Any]:
    match str(name):
        case "MAX_REPEAT" | "MIN_REPEAT" | "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
            return [argument[-1]]
        case "BRANCH":
            return list(argument[1])
        case _:
            return []


def _varies(item: Any) -> bool:
    name, argument = item
    if str(name) == "BRANCH":
        return True
    if str(name) in ("MAX_REPEAT", "MIN_REPEAT") and argument[0] != argument[1]:
        return True
    return any(_varies(child) for tree in _children(name, argument) for child in tree)


def _may_match(item: Any, code: int) -> bool:
    """Tell whether ``item`` may match the character ``code``; yes where it is not clear."""
    name, argument = item
    match str(name):
        case "LITERAL":
            return bool(argument == code)
        case "NOT_LITERAL":
            return bool(argument != code)
        case "AT" | "ASSERT_NOT":
            return False
        case "IN":
            negated = str(argument[0][0]) == "NEGATE"
            return negated != any(_in_set(kind, value, code) for kind, value in argument)
        case "ANY":
            return True
        case _:
            return any(_may_match(child, code) for tree in _children(name, argument) for child in tree)


def _in_set(kind: object, value: Any, code: int) -> bool:
    match str(kind):
        case "LITERAL":
            return bool(value == code)
        case "RANGE":
            return bool(value[0] <= code <= value[1])
        case "CATEGORY":
            letter = {"DIGIT": "d", "WORD": "w", "SPACE": "s"}[str(value).rsplit("_", 1)[1]]
            letter = letter.upper() if "_NOT_" in str(value) else letter
            return re.match(rf"(?a:\{letter})", chr(code)) is not None
        case _:
            return False
