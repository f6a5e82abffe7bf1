"""Strict JSON: what the judge reads and what an executor reads must be the same value.

``orjson`` holds RFC 8259 (UTF-8, no lone surrogates, no NaN, no byte order mark); a second pass finds keys that stand
twice in one object, which parsers resolve differently, and nesting deeper than ``MAX_DEPTH``.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 64


class StrictJsonError(ValueError):
    """The text is not strict JSON; ``pointer`` is a JSON pointer to the place, where one is known."""

    def __init__(self, message: str, pointer: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer


class _DuplicateKey(Exception):  # noqa: N818 - a signal inside this module
    """Some object of the text has a key twice."""


class _Marked(dict[str, Any]):
    """An object in which ``key`` stands twice."""

    key: str


def _refuse(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKey
    return value


def _mark(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    marked = _Marked(value)
    marked.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return marked


_decode: Final = json.JSONDecoder(object_pairs_hook=_refuse).decode
_decode_marked: Final = json.JSONDecoder(object_pairs_hook=_mark).decode


def loads(data: bytes | str) -> Any:
    """Return the value of ``data``, which is RFC 8259 JSON without duplicate keys and at most ``MAX_DEPTH`` deep."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StrictJsonError(f"not valid JSON: {error}") from None
    text = data if isinstance(data, str) else data.decode()
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(value)
    try:
        _decode(text)
    except _DuplicateKey:
        pointer, key = _find_twice(_decode_marked(text))
        raise StrictJsonError(f"the key `{key[:64]}` stands twice in one object", pointer) from None
    except ValueError as error:  # an integer with thousands of digits
        raise StrictJsonError(f"not valid JSON: {error}") from None
    return value


def dumps(value: object) -> bytes:
    """Return the one encoding of ``value`` that the gateway forwards."""
    return orjson.dumps(value)


def join(pointer: str, *tokens: str | int) -> str:
    """Append ``tokens`` to a JSON pointer (RFC 6901)."""
    return pointer + "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def _children(value: object) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _check_depth(value: object) -> None:
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise StrictJsonError(f"nested deeper than {MAX_DEPTH} levels")
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]


def _find_twice(value: object, pointer: str = "") -> tuple[str, str]:
    stack = [(pointer, value)]
    while stack:
        here, node = stack.pop()
        if isinstance(node, _Marked):
            return here, node.key
        stack += [(join(here, token), child) for token, child in _children(node)]
    raise AssertionError("no duplicate key")  # pragma: no cover - only called when there is one
