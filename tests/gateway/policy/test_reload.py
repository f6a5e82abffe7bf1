"""Changed policies come into force whole; wrong ones leave the last good bundle in force."""

import os
import threading
from pathlib import Path

import pytest

from gateway.errors import PolicyError
from gateway.policy import PolicyStore

GOOD = "version: 1\norganization: acme\n"


def test_a_change_comes_into_force(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    store = PolicyStore(tmp_path)
    first = store.current
    assert not store.changed()
    file.write_text(GOOD + "language: ja\n")
    assert store.changed()
    assert store.current is first
    assert store.reload() == ()
    assert store.current.policy("acme").language == "ja"
    assert first.policy("acme").language == "en"
    assert not store.changed()


def test_a_change_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD + "language: ja\n")
    store = PolicyStore(tmp_path)
    times = file.stat()
    file.write_text(GOOD + "language: en\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.changed()


def test_a_wrong_file_keeps_the_last_good_bundle_and_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("version: 1\norganization: other\n")
    store = PolicyStore(tmp_path)
    good = store.current
    (tmp_path / "a.yaml").write_text(GOOD + "language: ja\n")
    (tmp_path / "b.yaml").write_text("version: 1\norganization: other\nmode: monitor\n")
    problems = store.reload()
    assert [problem.split("b.yaml")[1][:5] for problem in problems] == [":3:7:"]
    assert store.current is good
    assert not store.changed()
    (tmp_path / "b.yaml").write_text("version: 1\norganization: other\n")
    assert store.changed()
    assert store.reload() == ()
    assert store.current.policy("acme").language == "ja"


def test_files_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    store = PolicyStore(folder)
    (folder / "a.yaml").write_text(GOOD)
    assert store.changed()
    assert store.reload() == ()
    assert set(store.current.policies) == {"acme"}
    (folder / "a.yaml").unlink()
    assert store.changed()
    assert store.reload() == ()
    assert store.current.policy("acme").name == "base"
    folder.rmdir()
    assert store.changed()
    assert "cannot be read" in store.reload()[0]
    assert not store.changed()
    assert store.current.policy("acme").name == "base"


def test_without_a_directory_there_is_the_base(tmp_path: Path) -> None:
    store = PolicyStore(None)
    assert not store.changed()
    assert store.reload() == ()
    assert store.current.policies == {}


def test_the_first_bundle_must_be_right(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 2\n")
    with pytest.raises(PolicyError):
        PolicyStore(tmp_path)


def test_readers_see_whole_bundles_while_files_change(tmp_path: Path) -> None:
    names = [f"o{number}" for number in range(5)]

    def write(language: str) -> None:
        for name in names:
            (tmp_path / f"{name}.yaml").write_text(f"version: 1\norganization: {name}\nlanguage: {language}\n")

    write("en")
    store = PolicyStore(tmp_path)
    done = threading.Event()
    mixed: list[set[str]] = []

    def read() -> None:
        while not done.is_set():
            bundle = store.current
            if len(languages := {bundle.policy(name).language for name in names}) > 1:
                mixed.append(set(languages))

    reader = threading.Thread(target=read)
    reader.start()
    for language in ["ja", "en"] * 5:
        write(language)
        assert store.reload() == ()
    done.set()
    reader.join()
    assert mixed == []


def test_a_policy_for_another_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD + "safety: {release: acme@3}\n")
    with pytest.raises(PolicyError, match=r"a\.yaml: safety\.release: `acme@3` is not loaded"):
        PolicyStore(tmp_path, release="so8t-nano")
    assert PolicyStore(tmp_path, release="acme@3").current.policy("acme").release == "acme@3"
