"""Test tables: situations beside a policy, each with the decision that its owner expects.

``NAME_test.yaml`` stands beside ``NAME.yaml``. A case with ``fails: true`` must *not* hold: it shows that the table
would notice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator

from gateway.decision import Decision
from gateway.policy.engine import decide
from gateway.policy.given import GIVEN_SCHEMA, contradictions, facts_of
from gateway.policy.merge import EffectivePolicy
from gateway.policy.source import Problem, Source, error_of, read_source
from gateway.policy.violations import problems_of, suggest

NONE: Final = "none"
"""What a table says for a domain, route or message that a decision does not have."""

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 1000}
_LIST: Final = {"type": "array", "maxItems": 200, "items": _TEXT}
_EXPECT: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The decision. What is left out may be anything.",
    "properties": {
        "effect": {"enum": ["allow", "escalate", "refuse"], "description": "What becomes of it."},
        "domain": _TEXT | {"description": "The domain, or `none`."},
        "route": _TEXT | {"description": "Where the case goes, or `none`."},
        "message": _TEXT | {"description": "What people are told, or `none`: nothing of the policy's own."},
        "reasons": _LIST | {"description": "The ids of everything that fired, in any order, no more and no fewer."},
        "errors": _LIST | {"description": "What failed inside, by the name of the gate, in any order."},
        "approvals": {"type": "integer", "minimum": 1, "description": "How many reviewers must approve."},
        "obligations": _LIST | {"description": "What must be done when it passes, by name: [redact, tag]."},
        "lowered": _LIST | {"description": "The rules that lowered what the Safety head says."},
        "teams": _LIST | {"description": "The teams whose layers were applied."},
        "enforced": {"type": "boolean", "description": "false: recorded only, because of `mode: monitor`."},
    },
    "required": ["effect"],
    "additionalProperties": False,
}

TABLE_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "SO8T Gateway policy test table",
    "type": "object",
    "description": "Situations, and the decision that a policy must give.",
    "properties": {
        "version": {
            "const": 1,
            "description": "Of this format.",
            "errorMessage": "this gateway reads version 1; write the number, `version: 1`",
        },
        "policy": _TEXT | {"description": "The policy's file, from here. Default: NAME.yaml beside NAME_test.yaml."},
        "cases": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2000,
            "description": "Each is tried alone.",
            "items": {
                "type": "object",
                "description": "One situation.",
                "properties": {
                    "name": _TEXT | {"description": "What it shows, as a sentence."},
                    "given": GIVEN_SCHEMA,
                    "expect": _EXPECT,
                    "fails": {
                        "type": "boolean",
                        "description": "true: the decision must be another one than expected here.",
                    },
                },
                "required": ["name", "given", "expect"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["version", "cases"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One situation of a table, and where it stands."""

    name: str
    given: Mapping[str, Any]
    expect: Mapping[str, Any]
    fails: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``policy`` is the policy's file as the table names it, if it does."""

    source: Source
    policy: str | None
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What was expected of one key of the decision, and what it is."""

    key: str
    expected: Any
    got: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case: it ``holds`` without ``differences``, or where it must fail and has some."""

    case: Case
    decision: Decision
    differences: tuple[Difference, ...]

    @property
    def holds(self) -> bool:
        """Whether it is as the table says."""
        return bool(self.differences) is self.case.fails


def read_table(data: bytes, file: str) -> Table:
    """Return the table in ``data``; ``file`` is its name in problems.

    Raises PolicyError: with every problem of the file alone; ``run_table`` finds those against the policy.
    """
    source, problems = read_source(data, file)
    for error in Draft202012Validator(TABLE_SCHEMA).iter_errors(source.value):
        problems += problems_of(error, source)
    if problems:
        raise error_of(problems)
    cases = []
    names: dict[str, int] = {}
    for index, one in enumerate(source.value["cases"]):
        line, column = source.places["cases", index]
        if (first := names.setdefault(one["name"], line)) != line:
            what = f"the case `{one['name']}` stands twice, first on line {first}; name each"
            problems.append(source.problem(("cases", index, "name"), what))
        cases.append(Case(one["name"], one["given"], one["expect"], one.get("fails", False), line, column))
    if problems:
        raise error_of(problems)
    return Table(source, source.value.get("policy"), tuple(cases))


def run_table(table: Table, policy: EffectivePolicy) -> tuple[Outcome, ...]:
    """Return what ``policy`` makes of each case, in order.

    Raises PolicyError: a case contradicts itself, or names a domain or route that the policy does not know.
    """
    problems: list[Problem] = []
    for index, case in enumerate(table.cases):
        for path, what in contradictions(case.given, policy):
            at_key = path[0] == "domains" or what.startswith("`")
            problems.append(table.source.problem(("cases", index, "given", *path), what, key=at_key))
        problems += _unknown(table.source, index, case, policy)
    if problems:
        raise error_of(problems)
    return tuple(_run(case, policy) for case in table.cases)


def _unknown(source: Source, index: int, case: Case, policy: EffectivePolicy) -> Iterator[Problem]:
    """Return a problem for each expected name that no decision of ``policy`` can have."""
    for key, known in (("domain", list(policy.domains)), ("route", list(policy.routes))):
        name = case.expect.get(key)
        if name is not None and name not in (NONE, *known) and not case.fails:
            yield source.problem(("cases", index, "expect", key), f"no {key} `{name}`; {suggest(name, known)}")


def _run(case: Case, policy: EffectivePolicy) -> Outcome:
    decision = decide(policy, facts_of(case.given, policy), decision_id="test")
    return Outcome(case, decision, tuple(_compare(case.expect, told(decision))))


def _compare(expected: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[Difference]:
    for key, value in expected.items():
        if (sorted(value) != sorted(got[key])) if isinstance(value, list) else value != got[key]:
            yield Difference(key, value, got[key])


def told(decision: Decision) -> dict[str, Any]:
    """Return ``decision`` in the words of tables."""
    return {
        "effect": decision.effect.value.lower(),
        "domain": decision.domain or NONE,
        "route": decision.route or NONE,
        "message": decision.message or NONE,
        "reasons": [reason.id for reason in decision.reasons],
        "errors": [error.rpartition(": ")[0] or error for error in decision.errors],
        "approvals": decision.approvals,
        "obligations": [obligation.name for obligation in decision.obligations],
        "lowered": [lowering.rule for lowering in decision.lowered],
        "teams": list(decision.teams),
        "enforced": decision.enforced,
    }


def count(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """Return how many passed and how many did not."""
    passed = sum(outcome.holds for outcome in outcomes)
    return passed, len(outcomes) - passed
