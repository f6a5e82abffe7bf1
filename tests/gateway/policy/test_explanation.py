"""An explanation has every rule that was tried, why, and what won; pictures hold nothing that could act."""

from xml.etree import ElementTree

import orjson

from gateway.policy import Facts
from gateway.policy.explanation import explain, plain, tell, wins
from gateway.policy.picture import draw_bars, draw_explanation
from gateway.verdict import Label
from tests.gateway.policy.examples import call, effective, verdict

POLICY = effective(
    """
tools: {send: {arguments: {type: object, required: [to]}, otherwise: {effect: escalate, domain: pii, message: Wait.}}}
rules:
  - {id: never, when: 'stage == "response" && tool.name == "other"', effect: refuse}
  - {id: broken, when: 'tool.arguments.amount > 5', effect: refuse}
"""
)
NAMES = "send"


def test_every_step_is_told() -> None:
    explanation = explain(POLICY, Facts("response", verdict(), (call(NAMES),)))
    steps = {(step.gate, step.layer): step for step in explanation.steps}
    assert steps["model", "acme"].held is False
    assert steps["tool:send", "acme"].held is True
    assert steps["rule:never", "acme"].held is False
    assert [(term.text, term.value) for term in steps["rule:never", "acme"].terms] == [
        ('stage == "response"', True),
        ('tool.name == "other"', False),
    ]
    assert steps["rule:broken", "acme"].held is None
    assert explanation.won == "tool:send:arguments"
    assert [step.gate for step in explanation.steps if wins(explanation, step)] == ["tool:send"]
    assert orjson.loads(orjson.dumps(plain(explanation)))["won"] == explanation.won


def test_text_for_people() -> None:
    lines = list(tell(explain(POLICY, Facts("response", verdict(), (call(NAMES),)))))
    assert lines[0] == "ESCALATE"
    assert "  decided by  tool:send:arguments" in lines
    assert "  message     Wait." in lines
    assert sum(line.endswith("<- decided") for line in lines) == 1
    assert any("  error rule:broken" in line for line in lines)


def test_what_a_client_wrote_cannot_act() -> None:
    evil = "\x1b[31m</text><script>alert(1)</script>\u202e"
    explanation = explain(POLICY, Facts("response", verdict(Label.ESCALATE), (call(evil),)))
    assert "\x1b" not in "\n".join(tell(explanation))
    for picture in (draw_explanation(explanation), draw_bars(evil, {evil: [(evil, 3)], "none": []})):
        root = ElementTree.fromstring(picture)  # noqa: S314 - our own
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg", "title", "style", "rect", "text", "circle",
        }  # fmt: skip
        assert "\x1b" not in picture
        assert "\u202e" not in picture
