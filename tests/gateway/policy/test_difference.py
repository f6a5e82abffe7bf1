"""What changed, and whether that is stricter, only where it is certain."""

import pytest

from gateway.policy.difference import compare, tell
from tests.gateway.policy.examples import effective

OLD = """
safety: {thresholds: {refuse: 0.5}}
domains: {medical: {effect: escalate, approvals: 2}}
routes: {desk: {due: 1h, on_expired: refuse}}
tools: {send: {arguments: {type: object, properties: {n: {maximum: 5}}}}, drop: {effect: refuse}}
rules: [{id: a, when: 'stage == "request"', effect: escalate}]
"""


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("refuse: 0.5", "refuse: 0.4", "~ thresholds  tightened\n    refuse: 0.5 -> 0.4"),
        ("{refuse: 0.5}", "{escalate: 0.4}", "~ thresholds  mixed"),
        ("effect: escalate, approvals: 2", "effect: refuse, approvals: 2", "~ domains.medical  tightened"),
        ("approvals: 2", "approvals: 1", "~ domains.medical  loosened"),
        (
            "maximum: 5", "maximum: 6",
            "~ tools.send  unclear\n    arguments.properties.n.maximum: 5 -> 6",
        ),
        (", drop: {effect: refuse}", "", "- tools.drop  loosened"),
        ("effect: escalate}]", "effect: refuse}]", "~ rules.a  tightened"),
        ("id: a", "id: b", "- rules.a  loosened"),
        ("due: 1h", "due: 2h", "~ routes.desk  unclear"),
        ("due: 1h", "due: 1h, cli: false", "~ routes.desk  tightened"),
        ("\nsafety", "\nlanguage: ja\nsafety", "~ language\n"),
        ("\nsafety", "\nfailures: {unjudged: refuse}\nsafety", "~ failures  tightened"),
        ("\nsafety", "\nteams: {ops: {keys: [k]}}\nsafety", "+ teams.ops"),
    ],
)  # fmt: skip
def test_a_change_is_told(before: str, after: str, told: str) -> None:
    changes = compare(effective(OLD), effective(OLD.replace(before, after)))
    assert told in "\n".join(tell(changes)) + "\n"


def test_the_order_of_keys_is_no_difference() -> None:
    lines = OLD.strip().splitlines()
    assert compare(effective(OLD), effective("\n".join(reversed(lines)))) == ()
    assert compare(effective(OLD), effective(OLD)) == ()
