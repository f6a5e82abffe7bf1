"""``so8t audit``: what people and scripts get, beside a running gateway and on a stopped one's directory."""

import asyncio
import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit.errors import VaultError
from audit.vault import commit
from gateway.cli.audit import app
from gateway.errors import SettingsError
from gateway.store.directory import DataDirectory
from gateway.store.records import Receipt
from gateway.store.store import Store
from tests.gateway.store.entries import enforcement

FIELDS = enforcement()
TEXT = "question \x1b[31mred\x1b[0m 質問"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "250", "NO_COLOR": "1"})


def record(store: Store, organization: str = "acme", **fields: Any) -> Receipt:
    async def one() -> Receipt:
        payloads = {"request": TEXT.encode(), "reply": b"\xff\x00"}
        return await store.trail.record(organization, "enforcement", {**FIELDS, **fields}, payloads)

    return asyncio.run(one())


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "data")


@pytest.fixture
def running(directory: DataDirectory) -> Iterator[Store]:
    with Store(directory, publish_interval_s=0.05) as store:
        yield store


@pytest.fixture
def stopped(directory: DataDirectory) -> Receipt:
    with Store(directory) as store:
        receipt = record(store)
        record(store, "beta")
    return receipt


def test_a_stopped_directory_verifies(directory: DataDirectory, stopped: Receipt) -> None:
    result = run("verify", "--data-dir", directory.path)
    assert result.exit_code == 0, result.output
    assert result.output.count("holds") == 2
    result = run("verify", "--data-dir", directory.path, "--json")
    reports = json.loads(result.output)
    assert [(each["organization"], each["holds"], each["size"]) for each in reports] == [
        ("acme", True, 1),
        ("beta", True, 1),
    ]


def test_a_running_gateway_is_verified_beside_it(directory: DataDirectory, running: Store) -> None:
    for _ in range(10):
        record(running)
        result = run("verify", "--data-dir", directory.path, "--org", "acme")
        assert result.exit_code == 0, result.output


def test_tampering_gives_exit_code_1_and_the_first_index(directory: DataDirectory, stopped: Receipt) -> None:
    tile = directory.published / "acme/tile/entries/000.p/1"
    tile.write_bytes(tile.read_bytes().replace(b"forwarded", b"refused!!"))
    result = run("verify", "--data-dir", directory.path, "--json")
    assert result.exit_code == 1
    report = json.loads(result.output)[0]
    assert (report["holds"], report["first_index"]) == (False, 0)
    result = run("verify", "--data-dir", directory.path)
    assert result.exit_code == 1
    assert "DOES NOT HOLD" in result.output
    assert "entry 0:" in result.output
    assert run("verify", "--data-dir", directory.path, "--org", "beta").exit_code == 0


def test_the_published_directory_alone_verifies_with_the_public_key(
    directory: DataDirectory, stopped: Receipt, tmp_path: Path
) -> None:
    key = str(directory.verifier())
    shutil.copytree(directory.published, tmp_path / "copy/audit")
    assert run("verify", "--data-dir", tmp_path / "copy", "--key", key).exit_code == 0
    other = tmp_path / "other"
    Store(DataDirectory(other)).close()
    assert run("verify", "--data-dir", tmp_path / "copy", "--key", DataDirectory(other).verifier()).exit_code == 1
    assert run("verify", "--data-dir", tmp_path / "copy", "--key", "nonsense").exit_code == 2


def test_an_earlier_checkpoint_is_the_logs_past(directory: DataDirectory, stopped: Receipt, tmp_path: Path) -> None:
    old = tmp_path / "checkpoint"
    shutil.copy(directory.published / "acme/checkpoint", old)
    with Store(directory) as store:
        record(store)
    assert run("verify", "--data-dir", directory.path, "--org", "acme", "--since", old).exit_code == 0
    assert run("verify", "--data-dir", directory.path, "--org", "beta", "--since", old).exit_code == 1
    assert run("verify", "--data-dir", directory.path, "--since", old).exit_code == 2


def test_a_directory_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    result = run("verify", "--data-dir", tmp_path / "nowhere")
    assert isinstance(result.exception, SettingsError)


def test_the_data_directory_is_found_by_the_environment(
    directory: DataDirectory, stopped: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SO8T_DATA_DIR", str(directory.path))
    assert run("verify").exit_code == 0


def test_the_latest_entries_are_listed(directory: DataDirectory, stopped: Receipt) -> None:
    result = run("show", "--data-dir", directory.path)
    assert result.exit_code == 0
    assert stopped.entry_id in result.output
    assert "forwarded (200)" in result.output
    assert "question" not in result.output
    entries = json.loads(run("show", "--data-dir", directory.path, "--json", "--org", "acme").output)
    assert [(each["index"], each["entry"]["id"]) for each in entries] == [(0, stopped.entry_id)]
    assert len(json.loads(run("show", "--data-dir", directory.path, "--json", "--limit", 1).output)) == 1


@pytest.mark.parametrize("ref", ["id", "decision", "request"])
def test_an_entry_is_shown_by_any_of_its_ids(directory: DataDirectory, stopped: Receipt, ref: str) -> None:
    entry_id = stopped.entry_id if ref == "id" else FIELDS[ref]
    result = run("show", entry_id, "--data-dir", directory.path, "--org", "acme")
    assert result.exit_code == 0
    assert "acme #0" in result.output
    assert "c1:sha256:" in result.output
    assert "question" not in result.output


def test_the_vault_is_opened_only_with_the_flag_and_never_obeyed_by_the_terminal(
    directory: DataDirectory, stopped: Receipt
) -> None:
    result = run("show", stopped.entry_id, "--data-dir", directory.path, "--payload")
    assert "質問" in result.output
    assert "\\x1b[31mred" in result.output
    assert "\x1b" not in result.output
    (shown,) = json.loads(run("show", stopped.entry_id, "--data-dir", directory.path, "--payload", "--json").output)
    request = shown["payloads"]["request"]
    assert request["text"] == TEXT
    assert shown["payloads"]["reply"]["base64"] == "/wA="
    salt = base64.b64decode(request["salt"])
    assert shown["entry"]["payloads"]["request"] == commit(salt, TEXT.encode()), "anybody can check what was disclosed"


def test_an_unknown_id_gives_exit_code_1(directory: DataDirectory, stopped: Receipt) -> None:
    for command in ("show", "prove"):
        result = run(command, "0199f3a0-0000-7000-8000-000000000003", "--data-dir", directory.path)
        assert result.exit_code == 1
        assert "no entry" in result.output


def test_an_altered_payload_gives_exit_code_1(directory: DataDirectory, stopped: Receipt) -> None:
    with Store(directory) as store:
        store.writer.run(
            lambda conn: conn.exec_driver_sql("UPDATE vault_record SET ciphertext = zeroblob(50)") and None
        )
    result = run("show", stopped.entry_id, "--data-dir", directory.path, "--payload")
    assert result.exit_code == 1
    assert "cannot be opened" in result.output
    assert not isinstance(result.exception, VaultError)


def test_a_proof_is_checked_with_nothing_but_the_public_key(
    directory: DataDirectory, stopped: Receipt, tmp_path: Path
) -> None:
    key = str(directory.verifier())
    file = tmp_path / "entry.tlog-proof"
    result = run("prove", stopped.entry_id, "--data-dir", directory.path, "--out", file)
    assert result.exit_code == 0, result.output
    shutil.rmtree(directory.path)
    result = run("verify-proof", file, "--key", key)
    assert result.exit_code == 0, result.output
    assert "holds: entry 0 of 1 in so8t/audit/acme" in result.output
    told = json.loads(run("verify-proof", file, "--key", key, "--json").output)
    assert told["entry"]["id"] == stopped.entry_id
    assert run("verify-proof", file, "--key", key, "--origin", "so8t/audit/beta").exit_code == 1
    file.write_bytes(file.read_bytes().replace(b"index 0", b"index 1"))
    assert run("verify-proof", file, "--key", key).exit_code == 1
    assert run("verify-proof", tmp_path / "nowhere", "--key", key).exit_code == 2


def test_an_entry_is_proved_by_its_index_and_without_the_database(directory: DataDirectory, stopped: Receipt) -> None:
    by_id = run("prove", stopped.entry_id, "--data-dir", directory.path).output
    assert by_id.startswith("c2sp.org/tlog-proof@v1\n")
    assert run("prove", "0", "--org", "acme", "--data-dir", directory.path).output == by_id
    assert run("prove", "0", "--data-dir", directory.path).exit_code == 2
    for file in directory.path.glob("gateway.db*"):
        file.unlink()
    assert run("prove", stopped.entry_id, "--data-dir", directory.path).output == by_id


def test_a_fresh_entry_of_a_running_gateway_is_proved(directory: DataDirectory, running: Store) -> None:
    receipt = record(running)
    result = run("prove", receipt.entry_id, "--data-dir", directory.path)
    assert result.exit_code == 0, result.output
