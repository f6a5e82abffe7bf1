"""Values made from the SDKs' own type models: one for every string, every key and every place for one more key."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

from gateway.wire.strict import join

JSON_TEXTS = ("arguments", "partial_json")
"""Strings that hold JSON themselves."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one string; ``benign`` is what normally stands there."""

    benign: str
    json: bool = False


@dataclass(frozen=True, slots=True)
class KeySlot:
    """The place of one key that a type does not name, or names freely."""

    free: bool


def fill(value: Any, text: str | None) -> Any:
    """Return ``value`` with ``text`` in its slot, or with what normally stands there."""
    if isinstance(value, Slot):
        if text is None:
            return value.benign
        return f'{{"{text}":"{text}"}}' if value.json else text
    if isinstance(value, dict):
        filled = {}
        for key, item in value.items():
            if isinstance(key, KeySlot):
                if text is None and not key.free:
                    continue
                key = text if text is not None else "x"
            filled[key] = fill(item, text)
        return filled
    if isinstance(value, list):
        return [fill(item, text) for item in value]
    return value


def pointer(value: Any, text: str, at: str = "") -> str | None:
    """Return the JSON pointer of the slot in ``value``."""
    if isinstance(value, Slot):
        return at
    children: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        children = iter(value.items())
    elif isinstance(value, list):
        children = iter(enumerate(value))
    for key, item in children:
        if isinstance(key, KeySlot):
            return join(at, text)
        if (found := pointer(item, text, join(at, key))) is not None:
            return found
    return None


@cache
def _fields(kind: Any) -> Mapping[str, tuple[Any, bool]]:
    """Return the fields of a model or a typed dictionary: type, and whether it must be there."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {
            field.alias or name: (field.annotation, field.is_required()) for name, field in kind.model_fields.items()
        }
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    required = kind.__required_keys__
    return {name: (hint, name in required or get_origin(hint) in _REQUIRED) for name, hint in hints.items()}


_REQUIRED: tuple[Any, ...] = (Required, typing_extensions.Required)
_WRAPPERS: tuple[Any, ...] = (*_REQUIRED, NotRequired, typing_extensions.NotRequired, Annotated)


def _is_object(kind: Any) -> bool:
    return typing_extensions.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _bare(kind: Any) -> Any:
    while True:
        if isinstance(kind, typing_extensions.TypeAliasType):
            kind = kind.__value__
        elif get_origin(kind) in _WRAPPERS:
            kind = get_args(kind)[0]
        else:
            return kind


def _variants(kind: Any) -> list[Any]:
    kind = _bare(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return [variant for part in get_args(kind) for variant in _variants(part)]
    return [kind]


def _element(kind: Any) -> Any | None:
    """Return the element type of anything that is a list in JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is None or len(arguments) != 1 or origin in (Literal, typing_extensions.Literal):
        return None
    return arguments[0]


def minimal(kind: Any, name: str, stack: tuple[Any, ...] = ()) -> Any:
    """Return the smallest value of a type, of the field ``name``."""
    for variant in _variants(kind):
        if variant in (Any, object):
            return {}
        if variant is type(None):
            continue
        if _is_object(variant):
            if variant in stack:
                continue
            inner = (*stack, variant)
            return {key: minimal(part, key, inner) for key, (part, needed) in _fields(variant).items() if needed}
        if variant is str:
            return "{}" if name in JSON_TEXTS else "x"
        if variant in (int, float):
            return 1
        if variant is bool:
            return True
        if get_origin(variant) in (Literal, typing_extensions.Literal):
            return get_args(variant)[0]
        if get_origin(variant) is dict:
            return {}
        element = _element(variant)
        if element is not None:
            if all(_is_object(part) and part in stack for part in _variants(element)):
                return []
            return [minimal(element, name, stack)]
    return None


def slots(kind: Any, name: str = "", stack: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield a value of the type for each string and key that can stand in it, with a slot in that place."""
    for variant in _variants(kind):
        origin = get_origin(variant)
        if variant is str:
            yield Slot("{}", json=True) if name in JSON_TEXTS else Slot("x")
        elif origin in (Literal, typing_extensions.Literal):
            if isinstance(get_args(variant)[0], str):
                yield Slot(get_args(variant)[0])
        elif variant in (Any, object):
            yield from ({"a": Slot("x")}, {KeySlot(free=True): 1})
        elif origin is dict:
            value = get_args(variant)[1]
            yield {KeySlot(free=True): minimal(value, name, stack)}
            for found in slots(value, name, stack):
                yield {"a": found}
        elif _is_object(variant):
            if stack.count(variant) < 1:
                yield from _object_slots(variant, (*stack, variant))
        elif (element := _element(variant)) is not None:
            for found in slots(element, name, stack):
                yield [found]


def _object_slots(kind: Any, stack: tuple[Any, ...]) -> Iterator[Any]:
    fields = _fields(kind)
    base = {key: minimal(part, key, stack) for key, (part, needed) in fields.items() if needed}
    yield {**base, KeySlot(free=False): "x"}
    for key, (part, _) in fields.items():
        for found in slots(part, key, stack):
            yield {**base, key: found}
