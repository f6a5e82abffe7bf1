"""The guides were followed: every file in them is right, every message is the real one, every table passes."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.policy import app

POLICIES = Path(__file__).parents[2] / "policies"
GUIDES = [POLICIES / "first-policy.md", POLICIES / "first-policy.ja.md"]
BLOCK = re.compile(r"^```(\w+) (\w+)=(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
run = CliRunner().invoke


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_it_can_be_followed(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "policies"
    folder.mkdir()
    seen = []
    for _, kind, name, text in BLOCK.findall(guide.read_text(encoding="utf-8")):
        seen.append(kind)
        if kind == "file":
            (folder / name).write_text(text, encoding="utf-8")
            result = run(app, ["check"])
            assert result.exit_code == 0, result.output
            assert result.stdout.startswith("ok policies/library.yaml library sha256:")
        elif kind == "error":
            right = (folder / "library.yaml").read_text(encoding="utf-8")
            key = name.split(":")[0]
            (folder / "library.yaml").write_text(re.sub(rf"^{key}: .*$", name, right, flags=re.MULTILINE), "utf-8")
            assert run(app, ["check"]).stdout == text
            (folder / "library.yaml").write_text(right, encoding="utf-8")
        else:
            result = run(app, [name])
            assert result.exit_code == 0, result.output
            assert result.stdout.startswith(text)
    assert seen == ["file", "file", "error", "file", "file", "run"]
    case = re.search(r'--case "?([^"\n]+)"?\n', guide.read_text(encoding="utf-8"))
    assert case
    result = run(app, ["explain", "policies/library.yaml", "--case", case[1], "--picture", "why.svg"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("ESCALATE\n")
    assert (tmp_path / "why.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize("guide", [*GUIDES, POLICIES / "README.md"], ids=lambda guide: guide.name)
def test_every_command_in_it_exists(guide: Path) -> None:
    for words in re.findall(r"so8t policy ((?:shadow )?[a-z]+)", guide.read_text(encoding="utf-8")):
        assert run(app, [*words.split(), "--help"]).exit_code == 0, words


@pytest.mark.parametrize("folder", [POLICIES, POLICIES / "examples" / "en", POLICIES / "examples" / "ja"], ids=str)
def test_every_published_policy_has_a_table_and_passes_it(folder: Path) -> None:
    result = run(app, ["test", str(folder)])
    assert result.exit_code == 0, result.output
    assert "has no table" not in result.stdout


@pytest.mark.parametrize("file", sorted((POLICIES / "examples").rglob("*.yaml")), ids=lambda file: str(file.name))
def test_an_example_is_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < 80


def test_the_examples_are_five_in_each_language() -> None:
    names = {"bank", "clinic", "law-office", "municipality", "software-company"}
    for language in ("en", "ja"):
        found = {file.stem for file in (POLICIES / "examples" / language).glob("*.yaml")}
        assert found == names | {f"{name}_test" for name in names}
