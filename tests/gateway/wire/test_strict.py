"""Strict JSON: one text, one value, whoever parses it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.strict import MAX_DEPTH, StrictJsonError, join, loads

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc~/"), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_every_plain_value_comes_back(value: object) -> None:
    assert loads(orjson.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"a":1,"a":2}', ""),
        (b'{"x":[{"a":1,"b":2,"a":3}]}', "/x/0"),
        (b'{"a~b/c":{"k":1,"k":1}}', "/a~0b~1c"),
        (b'{"\\u0061":1,"a":2}', ""),
    ],
)
def test_a_key_twice_is_found_where_it_stands(text: bytes, pointer: str) -> None:
    with pytest.raises(StrictJsonError, match="stands twice") as caught:
        loads(text)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"NaN",
        b"[1e999]",
        b'"\\ud800"',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{'a':1}",
        b"[1,]",
        b"{} {}",
        b"[1]\x00",
    ],
)
def test_what_rfc_8259_does_not_know_is_refused(text: bytes) -> None:
    with pytest.raises(StrictJsonError):
        loads(text)


def test_depth_is_limited_exactly() -> None:
    loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 1000, 400_000):
        with pytest.raises(StrictJsonError):
            loads(b"[" * depth + b"]" * depth)


def test_an_integer_of_thousands_of_digits_is_an_error_and_not_a_crash() -> None:
    try:
        loads(b"1" * 300)
    except StrictJsonError:
        return
    with pytest.raises(StrictJsonError):
        loads(b"[" + b"1" * 5000 + b"]")


def test_pointers_are_escaped() -> None:
    assert join("/a", "b/c", 0, "~") == "/a/b~1c/0/~0"
