"""Conditions of rules in CEL, checked against declared types when they are read, and bounded when they are evaluated.

The library is Google's own ``cel-expr-python``, measured on one core beside the others for
``stage == "response" && tool.name == "transfer" && tool.arguments.amount > 1000000``:

============================  =================  ========================  ==================================
library                       evaluation         type check when read      bounds
============================  =================  ========================  ==================================
cel-expr-python 0.1.3 (C++)   4 µs               yes, with line and column recursion, 10,000 iterations, RE2
common-expression-language    1 to 60 µs         no: a misspelt name or    none that can be set
0.10.0 (Rust)                                    wrong type fails later
cel-python 0.5.0              2,800 µs           no                        none
============================  =================  ========================  ==================================

All are Apache-2.0 and alive. Without a type check a misspelt variable would show only when the rule is needed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import re2  # type: ignore[import-untyped]
from cel_expr_python import cel  # type: ignore[import-untyped]

MAX_LENGTH: Final = 2000
MAX_LOOPS: Final = 4
MAX_ARGUMENTS: Final = 1024 * 1024
"""Characters of a call's arguments that a condition looks into."""

_MAP: Final = cel.Type.Map
_TYPES: Final[Mapping[str, cel.Type]] = {
    "stage": cel.Type.STRING,
    "principal.organization": cel.Type.STRING,
    "principal.key": cel.Type.STRING,
    "principal.owner": cel.Type.STRING,
    "principal.teams": cel.Type.List(cel.Type.STRING),
    "tool.name": cel.Type.STRING,
    "tool.arguments": _MAP(cel.Type.STRING, cel.Type.DYN),
    "parts.kinds": cel.Type.List(cel.Type.STRING),
    "parts.unjudged": cel.Type.INT,
    "parts.judged_bytes": cel.Type.INT,
    "parts.tools": cel.Type.List(cel.Type.STRING),
    "verdict.label": cel.Type.STRING,
    "verdict.domain": cel.Type.STRING,
    "verdict.domains": _MAP(cel.Type.STRING, cel.Type.DOUBLE),
    "verdict.scores.allow": cel.Type.DOUBLE,
    "verdict.scores.refuse": cel.Type.DOUBLE,
    "verdict.scores.escalate": cel.Type.DOUBLE,
    "now": cel.Type.TIMESTAMP,
    "conversation.risk": cel.Type.DOUBLE,
    "conversation.turns": cel.Type.INT,
}
VARIABLES: Final = tuple(_TYPES)
"""What a condition can ask for."""

_ENV: Final = cel.NewEnv(variables=dict(_TYPES))
_LOOPS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_FUNCTIONS: Final = (
    *sorted(_LOOPS), "has", "size", "contains", "startsWith", "endsWith", "matches", "timestamp", "duration",
    "getHours", "getMinutes", "getDayOfWeek", "getDate", "getDayOfMonth", "getMonth", "getFullYear", "int", "double",
    "string", "bool", "type",
)  # fmt: skip

_STAGES: Final[Mapping[str, Mapping[str, str]]] = {name: {"stage": name} for name in ("request", "response")}


class ConditionError(Exception):
    """A condition could not be evaluated; the text is one of a closed set and quotes nobody."""


class Found(NamedTuple):
    """What is wrong with a condition, and at which character of it."""

    offset: int
    what: str


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      |(?P<text>[bBrR]{0,2}(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<number>[0-9][0-9A-Za-z.]*)
      |(?P<sign>&&|\|\||[=!<>]=|.)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition. ``about_tools``: it asks for ``tool`` and is tried for each proposed call.

    ``domains`` are the domains that it names, each with its place in the text.
    """

    written: str
    about_tools: bool = field(compare=False)
    domains: tuple[tuple[str, int], ...] = field(compare=False, repr=False)
    program: Any = field(compare=False, repr=False)

    def holds(self, activation: Any) -> bool:
        """Tell whether it holds for the values of ``activation``.

        Raises ConditionError: it cannot be evaluated.
        """
        return evaluate(self.program, activation)

    def terms(self) -> tuple[tuple[str, Any], ...]:
        """Return the parts that ``&&`` or ``||`` joins at the top, each with its program; itself where none does."""
        return _terms(self.written)


def activate(values: Mapping[str, Any]) -> Any:
    """Return ``values`` of VARIABLES for ``Condition.holds``; a condition that asks for one left out fails.

    Raises ConditionError: a value cannot be given to a condition.
    """
    try:
        return _ENV.Activation(values)
    except Exception:  # noqa: BLE001 - the binding raises what it likes
        raise ConditionError("a value that conditions cannot hold") from None


def compile_condition(written: str) -> tuple[Condition | None, list[Found]]:
    """Return the condition, or what is wrong with it."""
    if len(written) > MAX_LENGTH:
        return None, [Found(0, f"the condition has {len(written)} characters, more than {MAX_LENGTH}; split the rule")]
    tokens = list(_tokens(written))
    if found := list(_check_bounds(tokens)):
        return None, found
    try:
        program = _ENV.compile(written)
        kind = program.return_type()
    except Exception as error:  # noqa: BLE001 - the binding raises RuntimeError, and what it likes on odd texts
        return None, _problems(str(error), written, tokens)
    if kind != cel.Type.BOOL:
        how = "compare it, as `… == true`" if kind == cel.Type.DYN else "compare it with something"
        return None, [Found(0, f"the condition gives {_kind(kind.name())}, not true or false; {how}")]
    condition = Condition(written, _asks_for_tools(tokens), tuple(_domains(tokens)), program)
    stages = ["response"] if condition.about_tools else ["request", "response"]
    if all(_never(program, stage) for stage in stages):
        what = "the condition never holds"
        if condition.about_tools:
            what += ": `tool` is a call that a reply proposes, at the stage `response`"
        return None, [Found(0, f"{what}; mend or remove the rule")]
    return condition, []


def _never(program: Any, stage: str) -> bool:
    """Tell whether it is false whatever the values are that are not known when it is read."""
    try:
        return not evaluate(program, _ENV.Activation(_STAGES[stage]))
    except ConditionError:
        return False


_CAUSES: Final = (
    ("NOT_FOUND", "a key that is not there"),
    ("No value with name", "a value that is not known here"),
    ("No matching overloads", "types that do not fit"),
    ("out of range", "a number that is too large"),
    ("verflow", "a number that is too large"),
    ("budget", "more than 10,000 turns"),
    ("nvalid timezone", "a time zone that does not exist"),
)


def evaluate(program: Any, activation: Any) -> bool:
    """Return what a program comes to.

    Raises ConditionError: it cannot be evaluated, or is neither true nor false.
    """
    try:
        answer = program.eval(activation).value()
    except Exception as error:  # noqa: BLE001 - the binding raises what it likes
        raise ConditionError(_cause(str(error))) from None
    if answer is True or answer is False:
        return bool(answer)
    raise ConditionError(_cause(str(answer)))


def _cause(text: str) -> str:
    return next((told for sign, told in _CAUSES if sign in text), "cannot be evaluated")


@lru_cache(maxsize=4096)
def _terms(written: str) -> tuple[tuple[str, Any], ...]:
    tokens = list(_tokens(written))
    signs = {token.text for token in _outer(tokens)} & {"&&", "||", "?"}
    if len(signs) == 1 and "?" not in signs:
        cuts = [token.offset for token in _outer(tokens) if token.text in signs]
        pieces = [written[start:end] for start, end in zip([0, *(cut + 2 for cut in cuts)], [*cuts, None], strict=True)]
    else:
        pieces = [written]
    return tuple((piece.strip(), _ENV.compile(piece)) for piece in pieces)


def _outer(tokens: list[_Token]) -> Iterator[_Token]:
    """Return the tokens outside all brackets."""
    depth = 0
    for token in tokens:
        if token.text in ("(", "[", "{"):
            depth += 1
        elif token.text in (")", "]", "}"):
            depth -= 1
        elif depth == 0:
            yield token


def _tokens(written: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(written):
        kind = found.lastgroup or "sign"
        if kind != "space":
            yield _Token(kind, found.group(), found.start())


def _asks_for_tools(tokens: list[_Token]) -> bool:
    before = ""
    for token in tokens:
        if token.kind == "name" and token.text == "tool" and before != ".":
            return True
        before = token.text
    return False


def _domains(tokens: list[_Token]) -> Iterator[tuple[str, int]]:
    """Return the domains named in or beside ``verdict.domains`` and ``verdict.domain``, each with its place."""
    texts = [token.text for token in tokens]
    for index in range(len(tokens) - 2):
        if texts[index : index + 2] != ["verdict", "."]:
            continue
        if len(tokens) < index + 5:
            continue
        named, sign, name = texts[index + 2], texts[index + 3], tokens[index + 4]
        if (named, sign) == ("domains", ".") and texts[index + 5 : index + 6] != ["("]:
            yield name.text, name.offset
        elif name.kind == "text" and (named, sign) in (("domains", "["), ("domain", "=="), ("domain", "!=")):
            yield _plain(name.text), name.offset


def _plain(literal: str) -> str:
    try:
        return str(_ENV.compile(literal).eval().value())
    except Exception:  # noqa: BLE001 - told by the check of the whole
        return literal


def _check_bounds(tokens: list[_Token]) -> Iterator[Found]:
    """Return loops inside loops or too many of them, and patterns that are not written out."""
    loops, depth, opened = 0, 0, list[int]()
    for index, token in enumerate(tokens):
        following = tokens[index + 1 : index + 4]
        called = following[:1] and following[0].text == "(" and index and tokens[index - 1].text == "."
        if token.text in ("(", "[", "{"):
            depth += 1
        elif token.text in (")", "]", "}"):
            depth -= 1
            opened = [level for level in opened if level <= depth]
        elif called and token.text in _LOOPS:
            loops += 1
            if opened:
                yield Found(token.offset, f"`{token.text}` inside a loop; loops cannot be nested")
            if loops == MAX_LOOPS + 1:
                yield Found(token.offset, f"more than {MAX_LOOPS} loops; split the rule")
            opened.append(depth + 1)
        elif called and token.text == "matches":
            yield from _check_pattern(token, following[1:])


def _check_pattern(token: _Token, argument: list[_Token]) -> Iterator[Found]:
    if len(argument) < 2 or argument[0].kind != "text" or argument[1].text != ")":
        yield Found(token.offset, "the pattern of `matches` must be written out, as one text")
        return
    if what := pattern_problem(_plain(argument[0].text)):
        yield Found(argument[0].offset, what)


def pattern_problem(pattern: str, most: int = 1000) -> str | None:
    """Return what is wrong with an expression in RE2's terms, which every match takes linear time for."""
    if len(pattern) > most:
        return f"the pattern has more than {most} characters"
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        told = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        return f"the pattern is not one of RE2's: {told[:100]}; look-around and back-references are not read"
    return None


_ERROR: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD: Final = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")


def _problems(error: str, written: str, tokens: list[_Token]) -> list[Found]:
    found = []
    starts = [0, *(index + 1 for index, char in enumerate(written) if char == "\n")]
    for line, column, what in _ERROR.findall(error):
        offset = starts[min(int(line), len(starts)) - 1] + max(int(column) - 1, 0)
        found.append(_told(what, offset, tokens))
    if not found and "recursion" in error:
        found.append(Found(0, "the condition is nested too deep; flatten it"))
    return list(dict.fromkeys(found))[:3] or [Found(0, "not a condition in CEL")]


def _told(what: str, offset: int, tokens: list[_Token]) -> Found:
    if named := _UNDECLARED.match(what):
        name = named[1]
        function = next((one for one in tokens if one.offset == offset), None)
        if (function is not None and function.text == "(") or _is_called(name, offset, tokens):
            return Found(offset, f"no function `{name[:64]}`; {_hint(name, _FUNCTIONS)}")
        begin = _begin(name, offset, tokens)
        written = "".join(_dotted(begin, tokens)) or name
        return Found(begin, f"no variable `{written[:64]}`; {_hint(written, VARIABLES)}")
    if named := _OVERLOAD.match(what):
        sign, kinds = named[1].replace("_", "").strip("@ ") or named[1], named[2].strip("()")
        hint = "compare what is alike"
        if {kind.strip() for kind in kinds.split(",")} == {"double", "int"}:
            hint = "write the whole number with a fraction, as `1.0`"
        return Found(offset, f"`{sign}` does not take {_kinds(kinds)}; {hint}")
    return Found(offset, f"not a condition in CEL: {what.removeprefix('Syntax error: ').split(' expecting')[0][:120]}")


def _is_called(name: str, offset: int, tokens: list[_Token]) -> bool:
    return any(
        one.text == name.rsplit(".", 1)[-1] and after.text == "(" and abs(after.offset - offset) <= len(name) + 1
        for one, after in pairwise(tokens)
    )


def _begin(name: str, offset: int, tokens: list[_Token]) -> int:
    """Return where the dotted name begins that the checker points into."""
    first = name.split(".")[0]
    places = [one.offset for one in tokens if one.text == first and one.offset <= offset]
    return places[-1] if places else offset


def _dotted(begin: int, tokens: list[_Token]) -> Iterator[str]:
    names = [one for one in tokens if one.offset >= begin]
    for index, one in enumerate(names):
        if (one.text == ".") != bool(index % 2) or (not index % 2 and one.kind != "name"):
            return
        if one.text == "." and (index + 2 < len(names) and names[index + 2].text == "("):
            return
        yield one.text


_ALIASES: Final = {
    "principal.team": "principal.teams",
    "principal.organisation": "principal.organization",
    "verdict.score": "verdict.scores.refuse",
    "arguments": "tool.arguments",
    "args": "tool.arguments",
    "time": "now",
}


def _hint(name: str, known: tuple[str, ...]) -> str:
    close = [_ALIASES[name]] if name in _ALIASES else get_close_matches(name, known, 1, 0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


_KINDS: Final = {
    "string": "a text",
    "int": "a whole number",
    "double": "a number with a fraction",
    "bool": "true or false",
    "list": "a list",
    "map": "a mapping",
    "timestamp": "a time",
    "duration": "a duration",
    "dyn": "something that only the call knows",
    "null_type": "nothing",
}


def _kind(name: str) -> str:
    plain = name.lower().split("(")[0].removeprefix("google.protobuf.")
    return _KINDS.get(plain, f"`{plain[:40]}`")


def _kinds(kinds: str) -> str:
    parts = [_kind(one.strip()) for one in re.split(r",(?![^(]*\))", kinds)]
    return " and ".join(parts)
