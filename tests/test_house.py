"""The house keeps its shape: sizes, names, and no word about machines."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("gateway", "audit", "training", "tests") for path in (ROOT / folder).rglob("*.py"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_holds_one_noun(path: Path) -> None:
    limit = 800 if path.is_relative_to(ROOT / "tests") else 500
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_name_is_a_noun_of_its_own(path: Path) -> None:
    assert not re.search(r"(utils?|helpers?|managers?|common|misc|_v\d+|_new|_old)$", path.stem)


def test_the_top_level_is_fixed() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert names <= {
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "GLOSSARY.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "audit",
        "constraints.txt",
        "deploy",
        "gateway",
        "policies",
        "pyproject.toml",
        "tests",
        "training",
    }


def test_every_dependency_is_pinned() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [", 1)[1].split("]\n\n[project.scripts]")[0]
    wanted = {name.lower().replace("_", "-") for name in re.findall(r'"([A-Za-z0-9_-]+)(?:;[^"]*)?"', block)}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    assert wanted <= pinned
