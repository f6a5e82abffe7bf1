"""YAML that can be read in one way only, with the place of every key and value.

The subset is the one that JSON can express, with the scalars of YAML 1.2: no anchors, aliases, tags, merge keys,
duplicate keys, tabs or second documents. ``no`` and ``on`` are texts, ``1:30`` is not ninety.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from gateway.errors import PolicyError

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_PROBLEMS: Final = 50
MAX_INTEGER: Final = 2**53 - 1

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong, and where."""

    file: str
    line: int
    column: int
    what: str

    def __str__(self) -> str:
        what = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in self.what)
        return f"{self.file}:{self.line}:{self.column}: {what}"


def error_of(problems: list[Problem]) -> PolicyError:
    """Return the error that tells ``problems``, each once, in the order of the file."""
    told = [str(problem) for problem in sorted(set(problems))]
    if len(told) > MAX_PROBLEMS:
        told[MAX_PROBLEMS:] = [f"{problems[0].file}: and {len(told) - MAX_PROBLEMS} more problems"]
    return PolicyError(tuple(told))


@dataclass(frozen=True, slots=True)
class Source:
    """The value of a file. ``broken`` lists the paths whose value could not be read and is None instead."""

    file: str
    value: Any
    places: Mapping[Path, tuple[int, int]]
    keys: Mapping[Path, tuple[int, int]]
    broken: frozenset[Path] = frozenset()
    text: str = field(default="", compare=False, repr=False)

    def unread(self, path: Path) -> bool:
        """Tell whether the value of ``path`` could not be read, so that what is wrong with it is told already."""
        return any(path[:end] in self.broken for end in range(len(path) + 1))

    def problem(self, path: Path, what: str, *, key: bool = False) -> Problem:
        """Return a problem at the value of ``path`` (or at its key), else at the nearest one around it."""
        if key and path in self.keys:
            return Problem(self.file, *self.keys[path], what)
        while path and path not in self.places:
            path = path[:-1]
        return Problem(self.file, *self.places.get(path, (1, 1)), what)

    def inside(self, path: Path, offset: int, what: str) -> Problem:
        """Return a problem at the character ``offset`` of the text that is the value of ``path``.

        In a text that is folded or has escapes the place is the nearest that can be told.
        """
        value: Any = self.value
        for step in path:
            value = value[step]
        line, column = self.places[path]
        lines = self.text.split("\n")
        begin = lines[line - 1][column - 1 :] if line <= len(lines) else ""
        before = str(value)[:offset]
        if begin[:1] == "|":
            first = next((row for row in lines[line:] if row.strip()), "")
            column = len(first) - len(first.lstrip()) + offset - before.rfind("\n")
            return Problem(self.file, line + 1 + before.count("\n"), column, what)
        if begin[:1] == ">":
            return Problem(self.file, line + 1, 1, what)
        quote = begin[:1] if begin[:1] in ("'", '"') else ""
        inner = begin[len(quote) :]
        doubled = "''" if quote == "'" else "\\"
        raw = 0
        for _ in before:
            raw += 2 if quote and inner.startswith(doubled, raw) else 1
        return Problem(self.file, line, column + len(quote) + min(raw, len(inner)), what)


def read_source(data: bytes, file: str) -> tuple[Source, list[Problem]]:
    """Return what ``data`` holds, and the problems that leave the rest readable.

    Raises PolicyError: nothing can be read.
    """
    if len(data) > MAX_BYTES:
        raise error_of([Problem(file, 1, 1, f"the file has {len(data)} bytes, more than {MAX_BYTES}; split it")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise error_of([Problem(file, line, column, "not UTF-8; save the file as UTF-8")]) from None
    if ambiguous := list(_find_ambiguous(text, file)):
        raise error_of(ambiguous)
    try:
        return _Reader(file).read(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"the character U+{int(error.character):04X} cannot stand in YAML; remove it"
        raise error_of([Problem(file, line, column, what)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = f"not YAML: {error.problem or error.context}; check indentation, brackets and quotes here"
        raise error_of([Problem(file, line, column, what)]) from None


_AMBIGUOUS: Final = re.compile("[\t\x85\u2028\u2029]")


def _find_ambiguous(text: str, file: str) -> Iterator[Problem]:
    """Return the first tab of each line, and the line ends that only some readers take for one."""
    for number, line in enumerate(text.split("\n"), 1):
        if found := _AMBIGUOUS.search(line):
            what = r"a tab; indent with spaces, and write `\t` in double quotes where a text needs one"
            if (char := found.group()) != "\t":
                what = f"the line end U+{ord(char):04X}, which not every reader takes for one; remove it"
            yield Problem(file, number, found.start() + 1, what)


class _StopError(Exception):
    """The rest of the file cannot be read; the problems say why."""


@dataclass
class _Reader:
    """Turns the parser's events into a value."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)

    def read(self, text: str) -> tuple[Source, list[Problem]]:
        events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        documents = 0
        value: Any = None
        try:
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._note(event, "a second document; one file holds one policy")
                        raise _StopError
                    value = self._value(next(events), events, ())
        except _StopError:
            raise error_of(self.problems) from None
        if not documents:
            raise error_of([Problem(self.file, 1, 1, "the file is empty; begin with `version: 1`")])
        return Source(self.file, value, self.places, self.keys, frozenset(self.broken), text), self.problems

    def _note(self, event: yaml.Event, what: str) -> None:
        self.problems.append(Problem(self.file, *_place(event), what))

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> Any:
        self.places[path] = _place(event)
        if len(path) > MAX_DEPTH:
            self._note(event, f"nested deeper than {MAX_DEPTH} levels; flatten it")
            raise _StopError
        if isinstance(event, yaml.AliasEvent):
            self._note(event, f"the alias `*{event.anchor}`: aliases are not read; write the value out")
            self.broken.add(path)
            return None
        if (anchor := getattr(event, "anchor", None)) is not None:
            self._note(event, f"the anchor `&{anchor}`: anchors are not read; remove it")
        if (tag := getattr(event, "tag", None)) is not None:
            self._note(event, f"the tag `{tag}`: tags are not read; remove it")
            self.broken.add(path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, path)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(child := next(events), yaml.SequenceEndEvent):
                items.append(self._value(child, events, (*path, len(items))))
            return items
        return self._scalar(event, path)

    def _mapping(self, events: Iterator[yaml.Event], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._value(event, events, (*path, ""))
            broken = (*path, "") in self.broken
            self.broken.discard((*path, ""))
            if not isinstance(key, str) and not broken:
                self._note(event, "a key that is not a text; put it in quotes")
            name = key if isinstance(key, str) else f"\0{len(found)}"
            here = (*path, name)
            if here in self.keys:
                line = self.keys[here][0]
                self._note(event, f"the key `{name[:64]}` stands twice, first on line {line}; keep one")
                here = (*path, f"\0{len(self.places)}")
            else:
                self.keys[here] = _place(event)
            value = self._value(next(events), events, here)
            if isinstance(key, str):
                found.setdefault(name, value)
        return found

    def _scalar(self, event: yaml.Event, path: Path) -> Any:
        text = str(getattr(event, "value", ""))
        if any("\ud800" <= char <= "\udfff" for char in text):
            self._note(event, r"half a character (`\ud800` to `\udfff`); write the character itself, or `\U0001....`")
            self.broken.add(path)
            return None
        if getattr(event, "style", None) is not None or getattr(event, "tag", None) is not None:
            return text
        try:
            value = read_scalar(text)
        except ValueError as error:
            self._note(event, str(error))
            self.broken.add(path)
            return None
        return value


_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_JSON: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def read_scalar(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar by the core schema of YAML 1.2, as far as JSON has it.

    Raises ValueError: a number that JSON cannot hold exactly.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_JSON.fullmatch(text):
        raise ValueError(f"`{text}` is not a number in JSON; write a finite number")
    if _INTEGER.fullmatch(text):
        if len(text) > 20 or abs(number := int(text, 0)) > MAX_INTEGER:
            raise ValueError(f"the number is beyond {MAX_INTEGER}, where programs stop to agree; write a smaller one")
        return number
    if _FLOAT.fullmatch(text):
        if not math.isfinite(real := float(text)):
            raise ValueError("the number is too large; write a smaller one")
        return real
    return text


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
