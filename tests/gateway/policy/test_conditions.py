"""Conditions are checked when they are read, bounded when they are evaluated, and quote nobody when they fail."""

import pytest

from gateway.errors import PolicyError
from gateway.policy.conditions import MAX_LENGTH, ConditionError, activate, compile_condition
from tests.gateway.policy.examples import effective

VALUES = {"stage": "response", "tool.name": "pay", "tool.arguments": {"amount": 5, "to": "a@acme", "list": [1, 2]}}


def holds(written: str, **values: object) -> bool:
    condition, found = compile_condition(written)
    assert condition is not None, found
    return condition.holds(activate(VALUES | values))


@pytest.mark.parametrize(
    ("written", "offset", "what"),
    [
        ('stgae == "x"', 0, "no variable `stgae`; did you mean `stage`?"),
        ('principal.team == "x"', 0, "no variable `principal.team`; did you mean `principal.teams`?"),
        ("stage == 1", 6, "`==` does not take a text and a whole number; compare what is alike"),
        ("verdict.scores.refuse > 1", 22, "write the whole number with a fraction, as `1.0`"),
        ("stage", 0, "the condition gives a text, not true or false"),
        ("tool.arguments.sure", 0, "compare it, as `… == true`"),
        ('principal.owner.contain("a")', 23, "no function `contain`; did you mean `contains`?"),
        ("foo(stage)", 3, "no function `foo`"),
        ('stage == "request" ||', 21, "not a condition in CEL: mismatched input '<EOF>'"),
        ('stage ==\n "a" &&\n stagge == "b"', 18, "no variable `stagge`; did you mean `stage`?"),
        ('"日本" == stage && stagge == "b"', 17, "no variable `stagge`"),
        ("parts.kinds.exists(a, parts.tools.exists(b, a == b))", 34, "loops cannot be nested"),
        (" && ".join(["parts.kinds.exists(a, a == stage)"] * 5), 160, "more than 4 loops"),
        ("stage.matches(principal.owner)", 6, "the pattern of `matches` must be written out"),
        ('stage.matches("(a")', 14, "the pattern is not one of RE2's"),
        ('stage.matches("(?=a)b")', 14, "look-around and back-references are not read"),
        ("false", 0, "the condition never holds"),
        ('stage == "request" && tool.name == "x"', 0, "`tool` is a call that a reply proposes"),
        ("(" * 200 + "true" + ")" * 200, 0, "nested too deep"),
        (f'stage == "{"x" * MAX_LENGTH}"', 0, "more than 2000; split the rule"),
        ('"\ud800" == stage', 0, "not a condition in CEL"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(written: str, offset: int, what: str) -> None:
    condition, found = compile_condition(written)
    assert condition is None
    assert found[0].offset == offset
    assert what in found[0].what


def test_a_condition_is_evaluated() -> None:
    assert holds('stage == "response" && tool.name == "pay" && tool.arguments.amount > 4')
    assert holds("tool.arguments.amount > 4.5 && tool.arguments.list.all(one, one < 3)")
    assert not holds('tool.arguments.to.endsWith("@evil") || has(tool.arguments.cc)')
    assert holds('!has(tool.arguments.cc) && tool.arguments.to.matches("^[^@]+@acme$")')


@pytest.mark.parametrize(
    ("written", "values", "cause"),
    [
        ("tool.arguments.none > 1", {}, "a key that is not there"),
        ("tool.arguments.to > 1", {}, "types that do not fit"),
        ("tool.arguments.amount > 1", {"tool.arguments": {"amount": 10**30}}, "a number that is too large"),
        ("tool.arguments.amount * 2 > 1", {"tool.arguments": {"amount": 2**62}}, "a number that is too large"),
        ("tool.arguments.list.all(one, one < 3)", {"tool.arguments": {"list": [1] * 20_000}}, "more than 10,000 turns"),
        ("now.getHours() > 1", {}, "a value that is not known here"),
    ],
)
def test_a_failure_is_told_in_closed_words(written: str, values: dict[str, object], cause: str) -> None:
    condition, _ = compile_condition(written)
    assert condition is not None
    with pytest.raises(ConditionError, match=cause) as caught:
        condition.holds(activate(VALUES | values))
    assert str(caught.value) == cause


def test_an_expression_takes_linear_time() -> None:
    assert not holds('tool.arguments.to.matches("^(a|b|ab)*c$")', **{"tool.arguments": {"to": "ab" * 100_000}})


def test_a_condition_tells_what_it_asks_for() -> None:
    condition, _ = compile_condition('tool.name == "a" && (verdict.domains.legal > 0.5 || verdict.domain == "hr")')
    assert condition is not None
    assert condition.about_tools
    assert [name for name, _ in condition.domains] == ["legal", "hr"]
    assert [text for text, _ in condition.terms()] == [
        'tool.name == "a"',
        '(verdict.domains.legal > 0.5 || verdict.domain == "hr")',
    ]
    other, _ = compile_condition('"tool" in parts.kinds')
    assert other is not None
    assert not other.about_tools


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("rules:\n- {id: a, effect: refuse, when: stagge == 1}", "4:33"),
        ("rules:\n- {id: a, effect: refuse, when: 'true && stagge == 1'}", "4:42"),
        ("rules:\n- {id: a, effect: refuse, when: 'stage == ''x'' && stagge == 1'}", "4:52"),
        ('rules:\n- {id: a, effect: refuse, when: "stage == \\"x\\" && stagge == 1"}', "4:52"),
        ('rules:\n- id: a\n  effect: refuse\n  when: |\n    stage == "x" &&\n      stagge == 1', "8:7"),
        ('rules:\n- id: a\n  effect: refuse\n  when: >\n    stage == "x" &&\n    stagge == 1', "7:1"),
    ],
)
def test_the_place_is_that_of_the_file(text: str, place: str) -> None:
    with pytest.raises(PolicyError) as caught:
        effective(text)
    assert caught.value.problems[0].startswith(f"acme.yaml:{place}: `a`: no variable `stagge`")
