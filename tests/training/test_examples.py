"""Labelled rows become examples, or an error that names file, line and field."""

import json
import random
from pathlib import Path

import pytest

from gateway.verdict import Label
from training.data import DataError, read_rows
from training.examples import DOMAINS, authored, domain_target, is_calibration, with_tools

OWN = Path("training/data")


def test_every_row_of_the_projects_own_data_is_usable() -> None:
    rows = list(authored(OWN))
    assert len(rows) > 3000
    assert len({row.id for row in rows}) == len(rows)
    names = {name for _, name in DOMAINS}
    assert {row.domain for row in rows} <= {*names, None}
    assert all(row.domain for row in rows if row.label is not Label.ALLOW)


def test_the_calibration_tenth_is_fixed_and_about_a_tenth() -> None:
    rows = list(authored(OWN))
    held = [row.id for row in rows if is_calibration(row)]
    assert 0.07 < len(held) / len(rows) < 0.13
    assert held == [row.id for row in authored(OWN) if is_calibration(row)]


def test_a_stop_marks_its_own_domain_and_a_near_miss_the_field_it_touches() -> None:
    for row in authored(OWN):
        marked = [DOMAINS[i] for i, value in enumerate(domain_target(row)) if value]
        if row.label is not Label.ALLOW:
            assert marked == [(row.label.value, row.domain)]


def test_a_proposed_call_can_be_shown_with_its_definition() -> None:
    row = next(row for row in authored(OWN) if row.kind == "tool_call")
    shown = with_tools(row, random.Random(1))
    call = row.conversation.messages[-1].tool_calls[0]
    assert call.name in {tool.name for tool in shown.conversation.tools}


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not JSON"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "MAYBE"}, "verdict"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "role: 'boss'"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    row = json.loads((OWN / "en4.jsonl").read_text(encoding="utf-8").splitlines()[0])
    (tmp_path / "rows.jsonl").write_text(json.dumps(row | change))
    with pytest.raises(DataError, match=message):
        list(authored(tmp_path))
