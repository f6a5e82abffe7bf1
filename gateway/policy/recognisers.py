"""Recognisers: where e-mail addresses, phone numbers, cards and the like stand in a text.

What has a check digit is checked; every expression is RE2's and takes linear time. Full-width characters are read as
their ASCII twins, so that `０９０ー１２３４…` is found where it stands.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import phonenumbers
import re2  # type: ignore[import-untyped]
from stdnum import iban, luhn
from stdnum.jp import in_ as my_number
from stdnum.us import ssn

from gateway.policy.conditions import pattern_problem

BUILT_IN: Final = ("email", "card", "iban", "my_number", "ssn", "phone")
"""The kinds that every policy knows; of two that claim one place the earlier and longer wins, then this order."""

_WIDE: Final = str.maketrans(
    {chr(0xFF01 + offset): chr(0x21 + offset) for offset in range(94)}
    | {"\u3000": " ", "\u00a0": " ", "\u30fc": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-"}
    | {"\u2014": "-", "\u2015": "-", "\u2212": "-"}
)


class Span(NamedTuple):
    """Something recognised: ``text[start:end]`` is one of ``kind``."""

    start: int
    end: int
    kind: str


def recognise(text: str, kinds: Iterable[str], patterns: Mapping[str, str] | None = None) -> list[Span]:
    """Return what is recognised in ``text``, in order, without overlaps; ``patterns`` recognise kinds of one's own.

    Raises KeyError: a kind that nobody knows.
    """
    plain = text.translate(_WIDE)
    own = patterns or {}
    order = {kind: rank for rank, kind in enumerate((*BUILT_IN, *sorted(own)))}
    found = [
        Span(start, end, kind)
        for kind in set(kinds)
        for start, end in (_own(own[kind], plain) if kind in own else _FINDERS[kind](plain))
    ]
    kept: list[Span] = []
    for span in sorted(found, key=lambda one: (one.start, -one.end, order[one.kind])):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def own_pattern_problem(pattern: str) -> str | None:
    """Return what is wrong with an expression that an organisation wants to recognise something by."""
    if what := pattern_problem(pattern, 500):
        return what
    if _compiled(pattern).search("") is not None:
        return "the pattern matches nothing at all as well; it must need at least one character"
    return None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _spans(pattern: str, text: str) -> Iterator[tuple[int, int]]:
    for found in _compiled(pattern).finditer(text):
        yield found.span()


def _own(pattern: str, text: str) -> Iterator[tuple[int, int]]:
    return (span for span in _spans(pattern, text) if span[0] < span[1])


def _alone(text: str, start: int, end: int) -> bool:
    """Tell whether no letter or digit of ASCII goes on on either side."""
    around = text[max(start - 1, 0) : start] + text[end : end + 1]
    return not any(char.isascii() and char.isalnum() for char in around)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return _spans(
        r"[A-Za-z0-9._%+'-]*[A-Za-z0-9_%+-]@(?:[\pL0-9](?:[\pL0-9-]*[\pL0-9])?\.)+(?:[A-Za-z]{2,}|\pL{2,})", text
    )


_DIGITS: Final = re.compile("[0-9]+")


class _Number(NamedTuple):
    """Digits in groups that stand together: ``text[start:end]``."""

    start: int
    end: int
    digits: str


def _numbers(text: str, run: str, least: int, most: int, check: Callable[[str], bool]) -> Iterator[_Number]:
    """Return the longest rows of groups of digits that ``check`` accepts, of ``least`` to ``most`` digits.

    ``run`` is what groups and the signs between them look like.
    """
    for begin, end in _spans(run, text):
        groups = [found.span() for found in _DIGITS.finditer(text, begin, end)]
        first = 0
        while first < len(groups):
            found = next((one for one in _rows(text, groups, first, least, most) if check(one.digits)), None)
            if found is not None and _alone(text, found.start, found.end):
                yield found
                while first < len(groups) and groups[first][0] < found.end:
                    first += 1
            else:
                first += 1


def _rows(text: str, groups: list[tuple[int, int]], first: int, least: int, most: int) -> Iterator[_Number]:
    """Return the rows of groups that begin with ``first``, the longest first."""
    rows, digits, start = [], "", groups[first][0]
    for begin, end in groups[first : first + most]:
        digits += text[begin : min(end, begin + most + 1)]
        if len(digits) > most:
            break
        if len(digits) >= least:
            rows.append(_Number(start, end, digits))
    return reversed(rows)


_GROUPS: Final = r"[0-9]{3,}(?:[ -][0-9]{3,})*"


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for one in _numbers(text, _GROUPS, 13, 19, lambda digits: digits[0] in "23456" and luhn.is_valid(digits)):
        yield one.start, one.end


def _my_numbers(text: str) -> Iterator[tuple[int, int]]:
    return ((one.start, one.end) for one in _numbers(text, _GROUPS, 12, 12, my_number.is_valid))


def _ssns(text: str) -> Iterator[tuple[int, int]]:
    for start, end in _spans(r"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}", text):
        if _alone(text, start, end) and ssn.is_valid(text[start:end].replace(" ", "-")):
            yield start, end


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for start, end in _spans(r"(?i)[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}", text):
        if start and text[start - 1].isascii() and text[start - 1].isalnum():
            continue
        for stop in range(end, start + 14, -1):
            if _alone(text, start, stop) and iban.is_valid(text[start:stop].replace("-", "")):
                yield start, stop
                break


_INTERNATIONAL: Final = r"\+[0-9]{1,4}(?:[ ().-]{0,3}[0-9]){5,14}"
_JAPANESE: Final = r"\(?[0-9]{2,}\)?(?:[ .-]{0,2}\(?[0-9]{2,}\)?)*"
_AMERICAN: Final = r"\(?[2-9][0-9]{2}\)?[ .-]{0,2}[2-9][0-9]{2}[ .-]?[0-9]{4}"


def _phones(text: str) -> Iterator[tuple[int, int]]:
    """Return valid phone numbers: those with `+` and a country's code, and Japanese and American ones without."""
    for start, end in _spans(_INTERNATIONAL, text):
        for stop in range(end, start + 7, -1):
            if _alone(text, start, stop) and text[stop - 1].isdigit() and _is_phone(text[start:stop], None):
                yield start, stop
                break
    for one in _numbers(text, _JAPANESE, 10, 11, cache(_is_japanese)):
        opened = one.start > 0 and text[one.start - 1] == "(" and ")" in text[one.start : one.end]
        yield one.start - opened, one.end
    for start, end in _spans(_AMERICAN, text):
        if _alone(text, start, end) and _is_phone(text[start:end], "US"):
            yield start, end


def _is_japanese(digits: str) -> bool:
    return digits[0] == "0" and _is_phone(digits, "JP")


def _is_phone(number: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


_FINDERS: Final = {
    "email": _emails,
    "card": _cards,
    "iban": _ibans,
    "my_number": _my_numbers,
    "ssn": _ssns,
    "phone": _phones,
}
