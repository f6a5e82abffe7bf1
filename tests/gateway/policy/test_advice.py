"""What is hardly meant is told, and refused by nobody."""

import pytest

from gateway.policy.advice import advise
from gateway.policy.document import read_policy
from tests.gateway.policy.examples import HEADER

HOOK = '{due: 1h, on_expired: refuse, notify: [{slack: {webhook: "${HOOK}"}}]}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"default_route: a\nroutes: {{a: {HOOK}}}", "acme.yaml:4:52: the variable HOOK is not set here"),
        (f"routes: {{a: {HOOK}}}", "acme.yaml:3:10: no case ever goes to the route `a`"),
        ("default_route: a\nroutes: {a: {due: 1h, on_expired: refuse}}", "acme.yaml:4:10: nobody is told of cases"),
        ("tools: {x: {effect: refuse, arguments: {type: object}}}", "its `arguments` change nothing"),
    ],
)
def test_it_is_told(text: str, told: str) -> None:
    policy = read_policy((HEADER + text).encode(), "acme.yaml")
    assert any(told in str(one) for one in advise(policy, {}))


def test_nothing_is_told_of_what_is_meant() -> None:
    text = f"domains: {{medical: {{route: a}}}}\nroutes: {{a: {HOOK}}}"
    policy = read_policy((HEADER + text).encode(), "acme.yaml")
    assert advise(policy, {"HOOK": "https://hooks.example"}) == ()
    assert advise(policy) == ()
