"""A release is verified whole before anything of it is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from gateway.errors import ReleaseError
from gateway.safety.head import load_head
from gateway.safety.release import builtin_release, open_release
from gateway.safety.trunk import Trunk


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "release"
    shutil.copytree(builtin_release(), target)
    return target


def test_the_builtin_release_verifies_and_is_small() -> None:
    release = open_release(builtin_release())
    assert release.id == "so8t-nano"
    assert sum(path.stat().st_size for path in release.folder.iterdir()) <= 32 * 1024 * 1024
    assert (release.folder / "MODEL_CARD.md").is_file()
    head = load_head(release)
    assert head.verdict.shape[0] == 3


@pytest.mark.parametrize("name", ["trunk.gguf", "head.json", "MODEL_CARD.md"])
def test_one_changed_byte_of_any_file_is_refused(copy: Path, name: str) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReleaseError, match=f"{name}: altered"):
        open_release(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "head.json").unlink()
    with pytest.raises(ReleaseError, match=r"head\.json: cannot be read"):
        open_release(copy)


def test_a_truncated_file_is_refused_by_its_size(copy: Path) -> None:
    path = copy / "trunk.gguf"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReleaseError, match="the manifest says"):
        open_release(copy)


def test_another_template_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"template": 99}))
    with pytest.raises(ReleaseError, match="template 99"):
        open_release(copy)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    with pytest.raises(ReleaseError, match="not JSON"):
        open_release(copy)


def test_a_file_that_llama_cpp_cannot_load_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "trunk.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ReleaseError, match=r"llama\.cpp cannot load"):
        Trunk(path, threads=1, cells=512)
