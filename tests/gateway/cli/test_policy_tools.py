"""``so8t policy test, explain, diff, replay, shadow``: exit codes, lines for people, JSON for scripts, a real store."""

import random
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli.policy import app
from gateway.policy import load_bundle
from gateway.policy.inputs import input_row
from gateway.policy.shadow import decide_both
from gateway.store.directory import DataDirectory
from gateway.store.inputs import add_inputs, erase_inputs, expire_inputs
from gateway.store.store import Store
from tests.gateway.policy.test_replay import draw

HEAD = "version: 1\norganization: acme\n"
NEW = HEAD + "domains: {legal: {effect: refuse}}\ntools: {drop: {effect: refuse}}\n"
COUNT = 60
run = CliRunner().invoke


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "acme.yaml").write_text(HEAD)
    (tmp_path / "new.yaml").write_text(NEW)
    return tmp_path / "policies"


@pytest.fixture
def recorded(policies: Path) -> Path:
    """Return a data directory in which decisions were made beside a shadow."""
    (policies / "shadow").mkdir()
    (policies / "shadow" / "acme.yaml").write_text(NEW)
    current, shadow = load_bundle(policies), load_bundle(policies / "shadow")
    rng = random.Random(2)
    rows = []
    for number in range(COUNT):
        facts = draw(rng)
        both = decide_both(current, shadow, 0, facts, decision_id=f"d{number:03}")
        rows.append(input_row(facts, both.current, number + 1, shadow=both.shadow, acted=both.acted))
    directory = DataDirectory(policies.parent / "data")
    with Store(directory) as store:
        store.writer.run(lambda conn: add_inputs(conn, rows))
    return directory.path


def test_without_a_running_gateway_nothing_is_reloaded(tmp_path: Path) -> None:
    result = run(app, ["reload", "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "no gateway runs" in result.output
    assert "is not a data directory" in run(app, ["reload", "--data-dir", str(tmp_path / "none")]).output


def test_tables_that_hold_and_that_do_not(policies: Path) -> None:
    table = policies / "acme_test.yaml"
    assert run(app, ["test"]).exit_code == 2
    table.write_text("version: 1\ncases:\n  - {name: Passes, given: {}, expect: {effect: allow}}\n")
    result = run(app, ["test", "--verbose"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == ["ok   policies/acme_test.yaml  1 of 1 cases hold", "  holds  Passes"]
    assert run(app, ["test", "policies/acme.yaml"]).exit_code == 0
    table.write_text(table.read_text() + "  - {name: Stops, given: {domain: legal}, expect: {effect: refuse}}\n")
    result = run(app, ["test"])
    assert result.exit_code == 1
    assert (
        "policies/acme_test.yaml:4:5: Stops\n    effect   expected refuse\n             got      escalate\n"
        in result.stdout
    )
    told = orjson.loads(run(app, ["test", "--json"]).stdout)
    assert (told["ok"], told["passed"], told["failed"]) == (False, 1, 1)
    assert told["tables"][0]["cases"][1]["differences"] == [{"key": "effect", "expected": "refuse", "got": "escalate"}]
    table.write_text("version: 1\n")
    result = run(app, ["test"])
    assert result.exit_code == 1
    assert "policies/acme_test.yaml:1:1: the file lacks `cases`" in result.stdout
    (policies / "gone_test.yaml").write_text("version: 1\ncases: [{name: x, given: {}, expect: {effect: allow}}]\n")
    assert "there is no policy policies/gone.yaml" in run(app, ["test", "policies/gone_test.yaml"]).stdout


def test_explain_a_situation(policies: Path) -> None:
    result = run(app, ["explain", "new.yaml", "--given", "{domain: legal}", "--picture", "why.svg"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("REFUSE\n  decided by  domain:legal\n")
    assert Path("why.svg").read_text().startswith("<svg")
    assert orjson.loads(run(app, ["explain", "new.yaml", "--given", "{}", "--json"]).stdout)["won"] == "model"
    for wrong in (["--given", "{domain: legall}"], ["--given", "["], ["--given", "{dom: x}"], ["--given", "5"]):
        result = run(app, ["explain", "new.yaml", *wrong])
        assert (result.exit_code, result.stdout[:8]) == (1, "--given:")
    assert run(app, ["explain", "new.yaml"]).exit_code == 2
    assert run(app, ["explain", "gone.yaml", "--given", "{}"]).exit_code == 2


def test_explain_a_recorded_decision(recorded: Path) -> None:
    result = run(app, ["explain", "policies/acme.yaml", "--decision", "d000", "--data-dir", str(recorded)])
    assert result.exit_code == 0, result.output
    assert "\nrecorded: " in result.stdout
    assert "another revision" not in result.stdout
    told = run(app, ["explain", "new.yaml", "--decision", "d000", "--data-dir", str(recorded)]).stdout
    assert "it was decided by another revision" in told
    result = run(app, ["explain", "new.yaml", "--decision", "nobody", "--data-dir", str(recorded)])
    assert result.exit_code == 1
    assert "no recorded input" in result.stdout


def test_diff(policies: Path, recorded: Path) -> None:
    assert run(app, ["diff", "new.yaml", "new.yaml"]).stdout == "no difference\n"
    result = run(app, ["diff", "policies/acme.yaml", "new.yaml", "--recorded", "--data-dir", str(recorded)])
    assert result.exit_code == 1
    assert "  ~ domains.legal  tightened\n      effect: ESCALATE -> REFUSE\n" in result.stdout
    assert f"{COUNT} recorded decisions" in result.stdout
    assert orjson.loads(run(app, ["diff", "policies/acme.yaml", "new.yaml", "--json"]).stdout)["policies"]["acme"]
    Path("bad.yaml").write_text("version: 2\n")
    assert run(app, ["diff", "bad.yaml", "new.yaml"]).exit_code == 2


def test_replay(recorded: Path) -> None:
    result = run(app, ["replay", "new.yaml", "--data-dir", str(recorded), "--picture", "flips.svg", "--json"])
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["total"] == COUNT
    assert told["flipped"] > 0
    assert "<svg" in Path("flips.svg").read_text()
    shadow = orjson.loads(run(app, ["shadow", "report", "--data-dir", str(recorded), "--json"]).stdout)
    assert shadow["total"] == COUNT
    assert shadow["flipped"] >= told["flipped"]
    assert run(app, ["replay", "policies/acme.yaml", "--data-dir", str(recorded)]).stdout.count("0 flip") == 1
    assert (
        orjson.loads(run(app, ["replay", "new.yaml", "--days", "1", "--data-dir", str(recorded), "--json"]).stdout)[
            "total"
        ]
        == 0
    )


def test_recorded_inputs_can_be_erased(recorded: Path) -> None:
    with Store(DataDirectory(recorded)) as store:
        assert store.writer.run(lambda conn: erase_inputs(conn, "other", ["d000"])) == 0
        assert store.writer.run(lambda conn: erase_inputs(conn, "acme", ["d000", "d001"])) == 2
        assert store.writer.run(lambda conn: expire_inputs(conn, 10)) == 7


def test_the_shadow_is_staged_and_taken_back(policies: Path, recorded: Path) -> None:
    stage = policies / "shadow" / "stage"
    assert run(app, ["shadow", "stage", "12.5"]).exit_code == 0
    assert stage.read_text() == "12.5\n"
    assert "(before: 12.5 %)" in run(app, ["shadow", "rollback"]).stdout
    assert stage.read_text() == "0\n"
    assert run(app, ["shadow", "stage", "101"]).exit_code == 2
    (policies / "shadow" / "acme.yaml").write_text(HEAD + "mode: monitor\n")
    assert run(app, ["shadow", "stage", "5"]).exit_code == 1
    assert stage.read_text() == "0\n"
