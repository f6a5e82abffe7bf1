"""Violations of the schema of policy files, in words that say how to mend them."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from jsonschema import ValidationError

from gateway.policy.source import Path, Problem, Source

_KINDS: Final = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def problems_of(error: ValidationError, source: Source) -> Iterator[Problem]:
    """Return what a violation of the schema means, where it is, and how to mend it."""
    path: Path = tuple(error.absolute_path)
    if source.unread(path):
        return
    schema: Any = error.schema
    instance: Any = error.instance
    wanted: Any = error.validator_value
    name = f"`{'.'.join(map(str, path))}`" if path else "the file"
    match error.validator:
        case "additionalProperties":
            known = list(schema["properties"])
            for key in instance:
                if key not in known:
                    yield source.problem((*path, key), _unknown(key, known, path), key=True)
        case "required":
            missing = [key for key in wanted if key not in instance]
            yield source.problem(path, f"{name} lacks {_all_of(missing)}")
        case "dependentRequired":
            yield source.problem((*path, "otherwise"), f"{name} has `otherwise` without `arguments`; add a schema")
        case "type":
            kind = _KINDS[wanted]
            yield source.problem(path, f"{name} must be {kind}, not {_kind(instance)}")
        case "pattern" | "maxLength" if "propertyNames" in list(error.relative_schema_path)[-2:]:
            what = schema["patternErrorMessage"] + f", at most {schema['maxLength']}"
            yield source.problem((*path, instance), f"`{instance[:64]}`: {what}", key=True)
        case "pattern":
            yield source.problem(path, f"{name}: {schema['patternErrorMessage']}")
        case "minProperties" | "maxProperties" if "errorMessage" in schema:
            yield source.problem(path, f"{name}: {schema['errorMessage']}")
        case "const":
            yield source.problem(path, f"{name}: {schema['errorMessage']}")
        case "enum" if "errorMessage" in schema:
            yield source.problem(path, f"{name} is {_shown(instance)}: {schema['errorMessage']}")
        case "enum":
            one_of = " or ".join(f"`{value}`" for value in wanted)
            yield source.problem(path, f"{name} must be {one_of}, not {_shown(instance)}")
        case _:
            bound = {"minimum": "at least", "maximum": "at most", "minLength": "at least", "maxLength": "at most"}
            bound |= {"minItems": "at least", "maxItems": "at most", "maxProperties": "at most"}
            unit = {"Length": " characters", "Items": " items", "Properties": " keys"}
            rule = str(error.validator)
            verb = "be" if rule in ("minimum", "maximum") else "have"
            yield source.problem(path, f"{name} must {verb} {bound[rule]} {wanted}{unit.get(rule[3:], '')}")


def _unknown(key: str, known: list[str], path: Path) -> str:
    where = f" in `{'.'.join(map(str, path))}`" if path else ""
    return f"unknown key `{key[:64]}`{where}; {suggest(key, known)}"


def suggest(name: str, known: list[str]) -> str:
    """Return a hint for a name that is not known."""
    close = get_close_matches(name, known, 1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


def _all_of(keys: list[str]) -> str:
    return " and ".join(f"`{key}`" for key in keys)


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int():
            return "a number"
        case float():
            return "a number with a fraction"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _shown(value: object) -> str:
    return f"`{value[:64]}`" if isinstance(value, str) else f"{_kind(value)}"
