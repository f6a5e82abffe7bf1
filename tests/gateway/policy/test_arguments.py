"""Arguments are one JSON object that every reader reads alike, matched as JSON Schema says."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.arguments import ArgumentsError, MatchError, compile_schema, read_arguments
from gateway.policy.repeats import MAX_TEXT


def matches(schema: dict[str, Any], arguments: dict[str, Any]) -> bool:
    compiled, problems = compile_schema(schema)
    assert problems == []
    return compiled.matches(arguments)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}', '{"x": {"b": 1, "b": 1}}', '{"a": NaN}', '{"a": Infinity}', "[]", '"x"', "null", "1", " ",
        "{", '{"a": 1} {}', "{'a': 1}", '{"a": 1,}', '{"a": "\ud800"}', "[" * 5000, '{"a":' * 2000,
        '{"a": ' + "9" * 5000 + "}", "\ufeff{}", '{"\\u0061": 1, "a": 2}',
    ],
)  # fmt: skip
def test_what_is_not_one_object_is_refused(text: str) -> None:
    with pytest.raises(ArgumentsError):
        read_arguments(text)


def test_an_object_is_read() -> None:
    assert read_arguments('{"a": [1, {"b": "é"}]}') == {"a": [1, {"b": "é"}]}
    assert read_arguments("") == {}


@given(st.text(max_size=50))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ArgumentsError):
        assert isinstance(read_arguments(text), dict)


def test_a_dollar_is_the_end_of_the_text_everywhere() -> None:
    """Python's own ``$`` lets a last newline pass; here it must not, wherever JSON Schema has a pattern."""
    pattern = {"properties": {"to": {"pattern": "^a@acme$"}}}
    assert matches(pattern, {"to": "a@acme"})
    assert not matches(pattern, {"to": "a@acme\n"})
    names = {"propertyNames": {"pattern": "^ok$"}}
    assert not matches(names, {"ok\n": 1})
    closed = {"patternProperties": {"^ok$": {"type": "integer"}}, "additionalProperties": False}
    assert matches(closed, {"ok": 1})
    assert not matches(closed, {"ok\n": 1})
    unevaluated = {"allOf": [{"patternProperties": {"^ok$": True}}], "unevaluatedProperties": False}
    assert not matches(unevaluated, {"ok\n": 1})
    nested = {"$defs": {"m": {"pattern": "^x$"}}, "properties": {"l": {"items": {"anyOf": [{"$ref": "#/$defs/m"}]}}}}
    assert matches(nested, {"l": ["x"]})
    assert not matches(nested, {"l": ["x\n"]})


def test_what_is_too_long_for_a_pattern_is_an_error_and_not_a_match() -> None:
    schema = {"properties": {"to": {"pattern": "a"}, "body": {"type": "string"}, "not": {"not": {"pattern": "a"}}}}
    long = "a" * (MAX_TEXT + 1)
    assert matches(schema, {"to": "a" * MAX_TEXT, "body": long})
    for arguments in ({"to": long}, {"not": long}, {"l": [{long: 1}]}):
        with pytest.raises(MatchError):
            matches(schema, arguments)


@pytest.mark.parametrize(
    ("schema", "path", "what"),
    [
        ({"type": "strnig"}, ("type",), "not valid JSON Schema"),
        ({"items": {"patern": "x"}}, ("items", "patern"), "did you mean `pattern`"),
        ({"items": {"zzz": "x"}}, ("items", "zzz"), "remove it"),
        ({"not": {"format": "email"}}, ("not", "format"), "use `pattern`"),
        ({"properties": {"a": {"$ref": "http://x"}}}, ("properties", "a", "$ref"), "must be `#/$defs/NAME`"),
        ({"$ref": "#"}, ("$ref",), "must be `#/$defs/NAME`"),
        ({"items": {"$ref": "#/$defs/a"}}, ("items", "$ref"), "has no `a`"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}}, ("$defs", "a", "$ref"), "round in circles"),
        ({"$id": "x"}, ("$id",), "not known"),
        ({"anyOf": [{}, {"pattern": "("}]}, ("anyOf", 1, "pattern"), "not a regular expression"),
        ({"patternProperties": {"a.*b.*c": {}}}, ("patternProperties", "a.*b.*c"), "too often for names"),
        ({"patternProperties": {"a$(": {}}}, ("patternProperties", "a$("), "not a regular expression"),
    ],
)
def test_a_wrong_schema_is_told_with_its_place(schema: dict[str, Any], path: tuple[str | int, ...], what: str) -> None:
    _, problems = compile_schema(schema)
    assert [found for found, told in problems if what in told] == [path]


def test_odd_shapes_are_refused_and_not_an_error() -> None:
    odd: list[dict[str, Any]] = [
        {"properties": []},
        {"allOf": {}},
        {"pattern": 5},
        {"$ref": 5},
        {"patternProperties": 1},
    ]
    for schema in odd:
        assert compile_schema(schema)[1]
    assert compile_schema({"additionalProperties": False, "items": True})[1] == []
