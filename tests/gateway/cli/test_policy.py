"""``so8t policy``: exit codes, lines for people, JSON for scripts."""

import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli.main import app as so8t
from gateway.cli.policy import app
from gateway.policy import load_bundle

ROOT = Path(__file__).parents[3]
BAD = ROOT / "tests" / "policies" / "bad" / "allow.yaml"
run = CliRunner().invoke


def test_the_policies_of_this_repository_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = run(app, ["check"])
    bundle = load_bundle(Path("policies"))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"ok policies/acme-clinic.yaml acme-clinic {bundle.policy('acme-clinic').revision}",
        f"ok base (packaged) - {bundle.base.revision}",
    ]


def test_problems_are_told_with_their_place() -> None:
    result = run(app, ["check", str(BAD)])
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 4
    assert result.stdout.startswith(f"{BAD}:4:22: ")


def test_json(tmp_path: Path) -> None:
    shutil.copy(ROOT / "policies" / "acme-clinic.yaml", tmp_path)
    good = run(app, ["check", str(tmp_path), "--json"])
    assert good.exit_code == 0
    told = orjson.loads(good.stdout)
    assert (told["ok"], told["problems"]) == (True, [])
    assert [one["organization"] for one in told["policies"]] == ["acme-clinic", None]
    bad = run(app, ["check", str(BAD), str(tmp_path), "--json"])
    assert bad.exit_code == 1
    told = orjson.loads(bad.stdout)
    assert (told["ok"], told["policies"], len(told["problems"])) == (False, [], 4)


def test_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["check"], ["check", "gone.yaml"], ["check", "--wrong"], []):
        assert run(app, arguments).exit_code == 2
    assert run(app, ["check", str(tmp_path), "--base", "gone.yaml"]).exit_code == 2


def test_an_own_base(tmp_path: Path) -> None:
    base = tmp_path / "own.yaml"
    base.write_text("version: 1\n")
    result = run(app, ["check", str(ROOT / "policies"), "--base", str(base)])
    assert result.exit_code == 1
    assert f"{base}:1:1: the file lacks `name`" in result.stdout


def test_the_schema_is_the_published_one() -> None:
    published = (ROOT / "policies" / "schema" / "policy.schema.json").read_bytes()
    assert run(app, ["schema"]).stdout_bytes == published
    assert orjson.loads(run(app, ["schema", "--base"]).stdout)["title"] == "SO8T Gateway base policy"


def test_it_hangs_in_the_command() -> None:
    assert run(so8t, ["policy", "check", str(BAD)]).exit_code == 1


def test_a_check_needs_no_model_and_no_server() -> None:
    """The policy engine and its command import no web framework and no torch."""
    code = (
        "import sys, gateway.cli.policy, gateway.policy\n"
        "print({'starlette', 'uvicorn', 'aiohttp', 'torch', 'transformers', 'sqlite3'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "set()\n"
