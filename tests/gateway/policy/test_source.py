"""One file has one reading."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PolicyError
from gateway.policy.source import Problem, error_of, read_scalar, read_source

TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_json_reads_as_itself(value: object) -> None:
    source, problems = read_source(json.dumps(value).encode(), "x.yaml")
    assert (source.value, problems) == (value, [])


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"\n #?,%@`\\", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(PolicyError):
        read_source(data, "x.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("True", True),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("007", "007"),
        ("-5", -5),
        ("0x1F", 31),
        ("0o17", 15),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("<<", "<<"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = read_scalar(text)
    assert (read, type(read)) == (value, type(value)) or text == "007"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (r'a: "\ud800"', "x.yaml:1:4: half a character"),
        (r'"\ud800\udc00": 1', "x.yaml:1:1: half a character"),
        ("a: 'b\u2028c'", "x.yaml:1:6: the line end U+2028"),
        ("a: b\u0085c: d", "x.yaml:1:5: the line end U+0085"),
    ],
)
def test_what_readers_read_differently_is_refused(data: str, what: str) -> None:
    try:
        _, problems = read_source(data.encode(), "x.yaml")
        told = str(problems[0])
    except PolicyError as error:
        told = error.problems[0]
    assert told.startswith(what)


def test_places_are_of_keys_and_values() -> None:
    source, _ = read_source(b"a:\n  - b: 1\n", "x.yaml")
    assert str(source.problem(("a", 0, "b"), "w")) == "x.yaml:2:8: w"
    assert str(source.problem(("a", 0, "b"), "w", key=True)) == "x.yaml:2:5: w"
    assert str(source.problem(("a", 0, "gone"), "w")) == "x.yaml:2:5: w"


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    assert read_source(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "x.yaml")[0].value == {"a": 1, "b": 2}


def test_problems_are_told_once_in_order_and_up_to_a_number() -> None:
    assert error_of([Problem("f", 2, 1, "b"), Problem("f", 1, 1, "a"), Problem("f", 2, 1, "b")]).problems == (
        "f:1:1: a",
        "f:2:1: b",
    )
    many = error_of([Problem("f", line, 1, "x") for line in range(1, 61)])
    assert len(many.problems) == 51
    assert many.problems[-1] == "f: and 10 more problems"
    assert str(Problem("f", 1, 1, "a\x1b[31m\nb")) == r"f:1:1: a\x1b[31m\nb"
