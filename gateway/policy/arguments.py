"""The arguments of a tool call: strict JSON, matched with JSON Schema 2020-12."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError, validators
from jsonschema.protocols import Validator
from referencing import Registry

from gateway.policy.patterns import translate
from gateway.policy.repeats import MAX_TEXT, longest_text
from gateway.policy.source import Path

_ONE: Final = (
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("$defs", "dependentSchemas", "patternProperties", "properties")
_PLAIN: Final = (
    "$comment", "$ref", "const", "default", "dependentRequired", "deprecated", "description", "enum", "examples",
    "exclusiveMaximum", "exclusiveMinimum", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum",
    "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern", "required", "title",
    "type", "uniqueItems",
)  # fmt: skip
_KNOWN: Final = frozenset((*_ONE, *_LISTS, *_MAPS, *_PLAIN))
_HINTS: Final = {
    "format": "`format` checks nothing in JSON Schema; use `pattern`",
    "$schema": "remove `$schema`: this is always JSON Schema 2020-12",
    "definitions": "write `$defs`",
    "dependencies": "write `dependentRequired` or `dependentSchemas`",
    "additionalItems": "write `items` beside `prefixItems`",
}


class ArgumentsError(ValueError):
    """The arguments of a call are not one JSON object that every reader reads alike."""


class MatchError(Exception):
    """The arguments cannot be matched within bounds."""


class _DuplicateKeyError(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKeyError("a key stands twice in one object")
    return value


_decode: Final = json.JSONDecoder(object_pairs_hook=_pairs).decode


def read_arguments(text: str) -> dict[str, Any]:
    """Return the object in ``text``: RFC 8259 without duplicate keys; the empty text is no arguments.

    Raises ArgumentsError: it is something else.
    """
    if text == "":
        return {}
    try:
        orjson.loads(text)
        value = _decode(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentsError(f"not strict JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ArgumentsError("not a JSON object")
    return value


def _pattern(validator: Validator, pattern: str, instance: object, _: object) -> Iterator[ValidationError]:
    if isinstance(instance, str):
        if len(instance) > (most := longest_text(pattern)):
            raise MatchError(f"a text of more than {most} characters cannot be matched with this pattern")
        yield from _stock_pattern(validator, pattern, instance, _)


_stock_pattern: Final = Draft202012Validator.VALIDATORS["pattern"]
_Matcher: Final = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class ArgumentsSchema:
    """A checked schema. ``written`` is the policy's own text of it."""

    written: Mapping[str, Any]
    matcher: Any

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """Tell whether ``arguments`` keep to the schema.

        Raises MatchError: a text or key is too long to be matched.
        """
        for key in _keys(arguments):
            if len(key) > MAX_TEXT:
                raise MatchError(f"a key of more than {MAX_TEXT} characters cannot be matched")
        return bool(self.matcher.is_valid(arguments))


def _keys(value: object) -> Iterator[str]:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield from node
            stack += node.values()
        elif isinstance(node, list):
            stack += node


def compile_schema(written: Mapping[str, Any]) -> tuple[ArgumentsSchema, list[tuple[Path, str]]]:
    """Return the schema and its problems, each with a path inside ``written``; with problems it must not be used."""
    problems: list[tuple[Path, str]] = []
    try:
        Draft202012Validator.check_schema(written, format_checker=FormatChecker(()))
    except SchemaError as error:
        problems.append((tuple(error.absolute_path), f"not valid JSON Schema: {error.message[:200]}"))
    mended = _mend(written, written, (), problems)
    return ArgumentsSchema(written, _Matcher(mended, registry=Registry())), problems


def _mend(schema: Any, root: Mapping[str, Any], path: Path, problems: list[tuple[Path, str]]) -> Any:
    """Return ``schema`` with its expressions in Python's terms, noting what is unknown or unsafe."""
    if not isinstance(schema, dict):
        return schema
    mended: dict[str, Any] = {}
    for key, value in schema.items():
        here = (*path, key)
        if key in _ONE:
            mended[key] = _mend(value, root, here, problems)
        elif key in _LISTS and isinstance(value, list):
            mended[key] = [_mend(item, root, (*here, index), problems) for index, item in enumerate(value)]
        elif key in _MAPS and isinstance(value, dict):
            names = {name: name for name in value}
            if key == "patternProperties":
                names = {name: _translated(name, (*here, name), problems) for name in value}
                for name, mended_name in names.items():
                    if longest_text(mended_name) < MAX_TEXT:
                        what = f"the pattern `{name[:80]}` repeats too often for names; set the repeats apart"
                        problems.append(((*here, name), what))
            mended[key] = {names[name]: _mend(item, root, (*here, name), problems) for name, item in value.items()}
        elif key == "pattern" and isinstance(value, str):
            mended[key] = _translated(value, here, problems)
        elif key == "$ref":
            _check_reference(value, root, here, problems)
            mended[key] = value
        elif key in _KNOWN:
            mended[key] = value
        else:
            problems.append((here, _unknown(key)))
    return mended


def _translated(pattern: str, path: Path, problems: list[tuple[Path, str]]) -> str:
    try:
        return translate(pattern)
    except ValueError as error:
        problems.append((path, f"the pattern `{pattern[:80]}` {error}"))
        return "(?!)"


def _check_reference(value: object, root: Mapping[str, Any], path: Path, problems: list[tuple[Path, str]]) -> None:
    name = value.removeprefix("#/$defs/") if isinstance(value, str) else ""
    if not isinstance(value, str) or not value.startswith("#/$defs/") or "/" in name:
        problems.append((path, "a `$ref` must be `#/$defs/NAME`, inside this schema"))
    elif name not in root.get("$defs", {}):
        problems.append((path, f"`$defs` of this schema has no `{name[:64]}`"))
    elif path[0] == "$defs":
        problems.append((path, "a `$ref` inside `$defs` could go round in circles; write the schema out"))


def _unknown(key: str) -> str:
    if key in _HINTS:
        return f"the schema key `{key}` is not read: {_HINTS[key]}"
    close = get_close_matches(key, _KNOWN, 1)
    hint = f"did you mean `{close[0]}`?" if close else "remove it"
    return f"the schema key `{key[:64]}` is not known and would check nothing; {hint}"
