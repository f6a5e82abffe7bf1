"""Patterns mean in Python what they mean in ECMAScript, and end in time."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.patterns import translate
from gateway.policy.repeats import longest_text


def matches(pattern: str, text: str) -> bool:
    return re.search(translate(pattern), text) is not None


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("^abc$", "abc", True),
        ("^abc$", "abc\n", False),
        ("^abc$", "x\nabc", False),
        ("a$|b", "a\n", False),
        (r"^a\$$", "a$", True),
        ("^[$^]$", "$", True),
        (r"^\d+$", "１２", False),
        (r"^\w+$", "é", False),
        (r"^[^\s]+$", "a\u00a0b", False),
        (r"^\S+$", "a\u2028b", False),
        (r"^[\s,]$", "\ufeff", True),
        (r"\s", "\u3000", True),
        ("^a.b$", "a\u2028b", False),
        ("^a.b$", "a😀b", True),
        ("^[.]$", "x", False),
        (r"^\u{1F600}\x41\u0042\0$", "😀AB\x00", True),
        ("^[[]$", "[", True),
        (r"^[\]\-a]+$", "]-a", True),
        ("^(?:ab|cd)(?=e)(?!f)(?<=d)(?<!x)e$", "cde", True),
        (r"^[^@\s,;]+@acme\.example$", "doctor@acme.example", True),
        (r"^[^@\s,;]+@acme\.example$", "doctor@acme.example\n", False),
        (r"^[^@\s,;]+@acme\.example$", "a@evil.example,b@acme.example", False),
        (r"^(?:[a-z0-9-]+\.)+example$", "a.b.example", True),
        ("^a{2,3}$", "aaaa", False),
    ],
)
def test_it_matches_as_ecmascript_does(pattern: str, text: str, matched: bool) -> None:
    assert matches(pattern, text) is matched


@pytest.mark.parametrize(
    "pattern",
    [
        "(", "*a", "a**", "[z-a]", "a{99999999999}", "(?P<x>a)", "(?i)a", "(?#c)a", "(?>a)", "(?<n>a)",
        r"\A", r"\Z", r"\z", r"\p{L}", r"\1", r"\07", "a++", "a{,3}", "a{2}+", "[]a]", "[^]", "[a&&b]", "[a--b]",
        r"[\s-x]", r"[a-\s]", r"[\S]", r"[\B]", "\\", r"\u{110000}", r"\e", r"\a", r"\G",
    ],
)  # fmt: skip
def test_what_readers_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^(has|is not) "):
        translate(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a*)*$", "(a|aa)+$", "(ab|abc|cab)*d", "(.*a)*b", "((a+)b?)+$", "([a-z]+[0-9]*)*!",
        r"(\w+\s?)+$", "(?:a{1,99})*b", r"(x[^y]*x)*z", "(?:(?:a+))+b", "(a+?)+?$", "((?:[a-c]|b)+)*d",
    ],
)  # fmt: skip
def test_exponential_time_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="exponential"):
        translate(pattern)


@pytest.mark.parametrize(
    ("pattern", "hard"),
    [
        (r"^(?:[a-z0-9-]+\.)+example$", "a." * 2000),
        (r"^[^@\s,;]+@[^@\s,;]+\.[a-z]+$", "a@" + "a." * 2000),
        ("^(?:ab)+$", "ab" * 2000 + "!"),
        ("(?:[^,]*,)*x$", "a," * 2000),
    ],
)
def test_what_is_taken_ends_in_time(pattern: str, hard: str) -> None:
    began = time.process_time()
    assert not matches(pattern, hard)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("pattern", "piece", "longest"),
    [
        (r"^[^@\s,;]+@acme\.example$", "a", 4096),
        (r"^[^@\s]+@[^@\s]+\.[a-z]+$", "a.", 4096),
        ("^P[0-9]{6}$", "P", 4096),
        (r"\s+$", " ", 4096),
        ("^.*b.*c$", "b", 4096),
        ("^.*b.*c.*d$", "abc", 271),
        ("b.*c.*d$", "abc", 271),
        (".*,.*;x$", ",;", 271),
        ("a*a*a*b", "a", 66),
        ("(a*)(a*)(a*)(a*)b", "a", 28),
        ("^(?:x|a*)(?:a*|y)[a-c]*d*b", "a", 66),
    ],
)
def test_the_longer_a_match_can_take_the_shorter_a_text_may_be(pattern: str, piece: str, longest: int) -> None:
    mended = translate(pattern)
    assert longest_text(mended) == longest
    text = (piece * longest)[: longest - 1] + "!"
    began = time.process_time()
    re.search(mended, text)
    assert time.process_time() - began < 3


@given(st.text(alphabet="ab01.$^\\[](){}|*+?-dsSwWuxpk,<>=!:&", max_size=12))
def test_any_text_is_translated_or_refused(pattern: str) -> None:
    try:
        mended = translate(pattern)
    except ValueError:
        return
    assert re.compile(mended)
