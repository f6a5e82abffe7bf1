"""The shipped model on held-out rows, through the command that users run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.safety.release import builtin_release
from gateway.verdict import Label
from training.examples import Example, authored
from training.metrics import dangerous_allow, macro_f1, over_stop

ROWS = Path(__file__).parent.parent / "testdata"


@pytest.fixture(scope="module")
def held_out() -> list[Example]:
    return list(authored(ROWS, held_out=True))


@pytest.fixture(scope="module")
def verdicts() -> list[dict[str, object]]:
    command = [sys.executable, "-m", "gateway.cli", "judge", str(ROWS / "dev.jsonl"), "--no-rationale"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=280)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_line_is_answered_in_order_with_its_id(
    held_out: list[Example], verdicts: list[dict[str, object]]
) -> None:
    assert [verdict["id"] for verdict in verdicts] == [row.id for row in held_out]
    assert all(set(v) == {"id", "label", "scores", "domain", "rationale", "unjudged"} for v in verdicts)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_model_is_as_good_as_its_report_says(
    held_out: list[Example], verdicts: list[dict[str, object]], lang: str
) -> None:
    report = json.loads((builtin_release() / "report.json").read_text(encoding="utf-8"))
    lines = {line["judge"]: line for line in report if line["lang"] == lang}
    rows = [i for i, row in enumerate(held_out) if row.lang == lang]
    gold = [held_out[i].label for i in rows]
    found = [Label(str(verdicts[i]["label"])) for i in rows]
    own = lines["so8t-nano"]
    assert macro_f1(gold, found) == pytest.approx(own["macro_f1"], abs=0.01)
    assert dangerous_allow(gold, found) == pytest.approx(own["dangerous_allow"], abs=0.015)
    assert over_stop(gold, found) == pytest.approx(own["over_stop"], abs=0.015)


def test_the_report_names_word_statistics_as_the_baseline_and_japanese_is_above_it() -> None:
    report = json.loads((builtin_release() / "report.json").read_text(encoding="utf-8"))
    score = {(line["judge"], line["lang"]): line["macro_f1"] for line in report}
    assert {("word statistics", "en"), ("so8t-nano", "en")} <= set(score)
    assert score["so8t-nano", "ja"] > score["word statistics", "ja"]
