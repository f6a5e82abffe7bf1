"""A directory is a bundle, whole or not at all."""

import os
import shutil
from pathlib import Path

import pytest

from gateway.errors import PolicyError
from gateway.policy import load_bundle
from gateway.policy.bundle import read_files

CLINIC = Path(__file__).parents[3] / "policies" / "acme-clinic.yaml"
GOOD = "version: 1\norganization: acme\n"


def test_the_base_alone() -> None:
    bundle = load_bundle(None)
    assert bundle.policies == {}
    assert bundle.policy("whoever") is bundle.base
    assert bundle.base.name == "base"


def test_a_directory(tmp_path: Path) -> None:
    shutil.copy(CLINIC, tmp_path / "any-name.yaml")
    (tmp_path / "other.yaml").write_text("version: 1\norganization: other\n")
    (tmp_path / "other_test.yaml").write_text("not: a policy")
    (tmp_path / "README.md").write_text("nor: this")
    (tmp_path / ".hidden.yaml").write_text("nor: this")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "x.yaml").write_text("nor: this")
    bundle = load_bundle(tmp_path)
    assert set(bundle.policies) == {"acme-clinic", "other"}
    assert bundle.policy("acme-clinic").language == "ja"
    assert bundle.policy("unheard-of") is bundle.base
    assert bundle.paths["acme-clinic"].endswith("any-name.yaml")
    assert bundle.policy("other").revision != bundle.base.revision


def test_revisions_change_with_the_content_only(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    first = load_bundle(tmp_path)
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    assert load_bundle(tmp_path).revision == first.revision
    (tmp_path / "b.yaml").write_text(GOOD + "language: ja\n")
    changed = load_bundle(tmp_path)
    assert changed.revision != first.revision
    assert changed.policy("acme").revision != first.policy("acme").revision
    assert changed.base.revision == first.base.revision


def test_an_own_base(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    packaged = read_files([]).base[1].decode()
    base.write_text(packaged.replace("name: base", "name: strict").replace("monitor: false", "monitor: true"))
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text(GOOD + "mode: monitor\n")
    bundle = load_bundle(folder, base)
    assert (bundle.base.name, bundle.policy("acme").mode) == ("strict", "monitor")
    with pytest.raises(PolicyError, match="does not permit `monitor`"):
        load_bundle(folder)
    base.write_text("version: 1\n")
    with pytest.raises(PolicyError, match=r"base\.yaml:1:1: the file lacks `name`"):
        load_bundle(folder, base)
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_bundle(folder, tmp_path / "gone.yaml")


def test_nothing_is_passed_over_silently(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(GOOD)
    with pytest.raises(PolicyError, match=r"a\.yml:1:1: only files named `\*\.yaml` are read; rename it to `a\.yaml`"):
        load_bundle(tmp_path)
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_bundle(tmp_path / "gone")
    (tmp_path / "a.yml").unlink()
    os.symlink(tmp_path / "gone", tmp_path / "b.yaml")
    with pytest.raises(PolicyError, match=r"b\.yaml:1:1: cannot be read"):
        load_bundle(tmp_path)
