"""The documents speak of things that exist."""

import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import COMMANDS, app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [path for path in ROOT.rglob("*.md") if ".venv" not in path.parts and "runs" not in path.parts]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_a_document_names_exists(path: Path) -> None:
    named = set(re.findall(r"(?:^|[`\s])so8t ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= {*COMMANDS, "gateway"}


def test_every_place_that_the_glossary_names_can_be_imported() -> None:
    for name in re.findall(r"`((?:gateway|audit|training)[\w.]*)`", (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")):
        module, *rest = re.split(r"\.(?=[A-Z])", name)
        found = importlib.import_module(module)
        for attribute in ".".join(rest).split(".") if rest else []:
            found = getattr(found, attribute, None) or found.__dataclass_fields__[attribute]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make (\w+)`", (ROOT / "README.md").read_text("utf-8")))))
def test_every_make_target_that_the_readme_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
