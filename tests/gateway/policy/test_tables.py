"""Tables: what holds, what does not, what must not, and what is wrong with the table itself."""

from pathlib import Path

import orjson
import pytest

from gateway.errors import PolicyError
from gateway.policy.tables import TABLE_SCHEMA, Outcome, count, read_table, run_table
from tests.gateway.policy.examples import effective

POLICY = """
domains: {medical: {effect: escalate, route: desk, message: Wait.}}
routes: {desk: {due: 1h, on_expired: refuse}}
tools:
  send: {arguments: {type: object, required: [to]}, otherwise: {effect: escalate, domain: pii}}
rules:
  - {id: night, when: 'now.getHours() < 6', effect: refuse}
  - {id: ops, when: '"ops" in principal.teams && conversation.turns > 3', effect: refuse}
teams:
  ops: {owners: [anna]}
"""
PUBLISHED = Path(__file__).parents[3] / "policies" / "schema" / "policy-test.schema.json"


def run(cases: str) -> tuple[Outcome, ...]:
    return run_table(read_table(f"version: 1\ncases:\n{cases}".encode(), "t.yaml"), effective(POLICY))


def problems(cases: str, head: str = "version: 1\ncases:\n") -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        run_table(read_table((head + cases).encode(), "t.yaml"), effective(POLICY))
    return caught.value.problems


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("{}", "{effect: allow, domain: none, route: none, message: none, reasons: [model], approvals: 1}"),
        ("{domain: medical}", "{effect: escalate, domain: medical, route: desk, message: Wait.}"),
        ("{label: refuse}", "{effect: refuse, domain: none}"),
        ("{scores: {allow: 0.4, refuse: 0.1, escalate: 0.5}, domains: {medical: 0.9}}", "{effect: escalate}"),
        ("{scores: {allow: 0.6, refuse: 0.1, escalate: 0.3}}", "{effect: allow}"),
        (
            "{scores: {allow: 0.6, refuse: 0.1, escalate: 0.3}, thresholds: {refuse: 0.5, escalate: 0.4}}",
            "{effect: escalate}",
        ),
        ("{tool: send, arguments: {to: x}}", "{effect: allow}"),
        ("{tool: send}", '{effect: escalate, domain: pii, reasons: ["tool:send:arguments", model]}'),
        ("{tool: send, arguments_text: '{'}", "{effect: refuse}"),
        ("{calls: [{tool: look}, {tool: send}]}", "{effect: escalate}"),
        ("{unjudged: [image]}", "{effect: escalate, reasons: [model, unjudged]}"),
        ("{now: 2026-05-05T05:59Z}", '{effect: refuse, reasons: [model, "rule:night"]}'),
        ('{now: "2026-05-05T05:59+02:00"}', "{effect: refuse}"),
        ("{owner: anna, turns: 4}", "{effect: refuse, teams: [ops]}"),
        ("{teams: [ops], turns: 4}", "{effect: refuse, teams: [ops]}"),
        ("{owner: anna}", "{effect: allow, obligations: [], lowered: [], errors: [], enforced: true}"),
    ],
)
def test_a_case_that_holds(given: str, expect: str) -> None:
    (outcome,) = run(f"  - {{name: x, given: {given}, expect: {expect}}}\n")
    assert outcome.differences == ()
    assert outcome.holds


def test_a_case_that_does_not_hold_tells_the_difference_and_its_place() -> None:
    right, wrong, must, idle = run(
        "  - {name: a, given: {}, expect: {effect: allow}}\n"
        "  - {name: b, given: {domain: medical}, expect: {effect: refuse, domain: medical, reasons: [unjudged]}}\n"
        "  - {name: c, given: {}, expect: {effect: refuse}, fails: true}\n"
        "  - {name: d, given: {}, expect: {effect: allow}, fails: true}\n"
    )
    assert [outcome.holds for outcome in (right, wrong, must, idle)] == [True, False, True, False]
    assert [(one.key, one.expected, one.got) for one in wrong.differences] == [
        ("effect", "refuse", "escalate"),
        ("reasons", ["unjudged"], ["model"]),
    ]
    assert (wrong.case.line, wrong.case.column) == (4, 5)
    assert count((right, wrong, must, idle)) == (2, 2)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("{domain: medcal}", "3:31: no domain `medcal`; did you mean `medical`?"),
        ("{stage: request, tool: send}", "leave `stage` out"),
        ("{arguments: {}}", "`arguments` without `tool`"),
        ("{label: allow, scores: {allow: 1, refuse: 0, escalate: 0}}", "`scores` stands beside `label`; keep one"),
        ("{scores: {allow: 1, refuse: 1, escalate: 1}}", "they must sum to 1"),
        ("{tool: a, arguments: {}, arguments_text: x}", "`arguments_text` stands beside `arguments`"),
        ("{calls: [{tool: a, arguments: {}, arguments_text: x}]}", "`arguments_text` stands beside `arguments`"),
        ("{teams: [opps]}", "no team `opps`; did you mean `ops`?"),
        ("{now: 2026-02-30T10:00Z}", "there is no time `2026-02-30T10:00Z`"),
        ("{now: tomorrow}", "write the time as `2026-11-24T09:30Z`"),
        ("{lable: allow}", "unknown key `lable` in `cases.0.given`; did you mean `label`?"),
    ],
)
def test_a_wrong_situation_is_refused(given: str, problem: str) -> None:
    (found,) = problems(f"  - {{name: x, given: {given}, expect: {{effect: allow}}}}\n")
    assert found.startswith("t.yaml:3:")
    assert problem in found


def test_a_wrong_table_is_refused() -> None:
    assert problems("", "version: 1\n") == ("t.yaml:1:1: the file lacks `cases`",)
    twice = "  - {name: x, given: {}, expect: {effect: allow}}\n" * 2
    assert problems(twice) == ("t.yaml:4:12: the case `x` stands twice, first on line 3; name each",)
    (found,) = problems("  - {name: x, given: {}, expect: {effect: escalate, route: dest}}\n")
    assert found == "t.yaml:3:60: no route `dest`; did you mean `desk`?"
    assert "must be `allow` or" in problems("  - {name: x, given: {}, expect: {effect: deny}}\n")[0]


def test_the_schema_is_published() -> None:
    assert orjson.loads(PUBLISHED.read_bytes()) == TABLE_SCHEMA
