"""A whole store: refused where it must be, and whole again after any kill."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from audit.log import find_entries
from gateway.errors import AuditUnavailable, SettingsError
from gateway.store.directory import DataDirectory
from gateway.store.engine import open_reader, open_writer, upgrade
from gateway.store.lock import DirectoryInUse, DirectoryLock
from gateway.store.records import Administrator
from gateway.store.schema import metadata
from gateway.store.store import Store
from tests.gateway.store.entries import enforcement, verify

ROUNDS = 6


async def fill(directory: DataDirectory, count: int, organization: str = "acme") -> None:
    with Store(directory) as store:
        await asyncio.gather(*(store.trail.record(organization, "enforcement", enforcement()) for _ in range(count)))


def test_migrations_lead_to_the_schema(tmp_path: Path) -> None:
    engine = open_writer(tmp_path / "gateway.db")
    upgrade(engine)
    upgrade(engine)
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    engine.dispose()


def test_only_one_process_may_write(directory: DataDirectory, store: Store) -> None:
    with pytest.raises(DirectoryInUse):
        Store(directory)
    store.close()
    with DirectoryLock(directory):
        pass
    store._lock = DirectoryLock(directory)


def test_secrets_are_made_once_and_only_their_owner_reads_them(directory: DataDirectory, store: Store) -> None:
    for file in (directory.audit_key, directory.master_key):
        assert file.stat().st_mode & 0o777 == 0o600
    assert directory.verifier() == store.verifier
    assert store.verifier.name == "so8t/audit"


def test_a_secret_that_others_can_read_is_refused(directory: DataDirectory) -> None:
    Store(directory).close()
    directory.audit_key.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        Store(directory)


def test_a_lost_master_key_is_told_and_not_replaced(directory: DataDirectory) -> None:
    Store(directory).close()
    directory.master_key.unlink()
    with pytest.raises(SettingsError, match="missing"):
        Store(directory)
    assert not directory.master_key.exists()


async def test_a_closed_store_has_published_everything(directory: DataDirectory) -> None:
    await fill(directory, 300)
    report = verify(directory, "acme")
    assert report.findings == ()
    assert report.size == report.entries == 300


async def test_entries_are_published_within_a_second_while_running(directory: DataDirectory, store: Store) -> None:
    await store.trail.record("acme", "enforcement", enforcement())
    await asyncio.sleep(1.0)
    assert verify(directory, "acme").size == 1


async def test_an_older_database_is_refused_with_a_clear_error(directory: DataDirectory, tmp_path: Path) -> None:
    await fill(directory, 5)
    shutil.copy(directory.database, tmp_path / "backup.db")
    await fill(directory, 5)
    shutil.copy(tmp_path / "backup.db", directory.database)
    with pytest.raises(AuditUnavailable, match="10 entries, the database only 5: it is an older copy"):
        Store(directory)
    with pytest.raises(AuditUnavailable, match="older copy"):
        Store(directory)


async def test_an_altered_entry_that_is_not_published_yet_is_refused(directory: DataDirectory) -> None:
    store = Store(directory, publish_interval_s=1000)
    await store.trail.record("acme", "enforcement", enforcement())
    store.publisher.problem = "the process dies here"
    store.publisher._commit = lambda _: False
    store.close()
    connection = sqlite3.connect(directory.database)
    connection.execute("UPDATE audit_leaf SET leaf = X'7B7D'")
    connection.commit()
    connection.close()
    with pytest.raises(AuditUnavailable, match="altered"):
        Store(directory)


def test_a_file_that_is_no_database_is_refused(directory: DataDirectory) -> None:
    Store(directory).close()
    directory.database.write_bytes(b"not a database" * 1000)
    for left in directory.path.glob("gateway.db-*"):
        left.unlink()
    with pytest.raises(AuditUnavailable, match="not a database"):
        Store(directory)


def test_every_acknowledged_entry_survives_kill_9_in_the_middle_of_load(directory: DataDirectory) -> None:
    acknowledged: set[str] = set()
    for round_number in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.store.load", str(directory.path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.15 + 0.13 * round_number)
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        told = output.splitlines()
        complete = told if output.endswith("\n") else told[:-1]
        assert complete, "the load had begun"
        acknowledged.update(complete)
        before = verify(directory, "acme")
        assert before.findings == (), "what was published holds before any repair"
        with Store(directory):
            pass
        after = verify(directory, "acme")
        assert after.findings == ()
        assert after.size == after.entries
        reader = open_reader(directory.database)
        with reader.connect() as conn:
            lost = [each for each in acknowledged if len(find_entries(conn, each)) != 1]
        reader.dispose()
        assert lost == []
    assert len(acknowledged) >= 10 * ROUNDS


async def test_a_change_and_its_entry_are_one_transaction(store: Store) -> None:
    made = await store.keys.create("acme", "Hanako", Administrator("root"))
    with store.reader.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM api_key").scalar_one() == 1
        assert conn.exec_driver_sql("SELECT count(*) FROM audit_leaf").scalar_one() == 1
    assert made.id in made.key
