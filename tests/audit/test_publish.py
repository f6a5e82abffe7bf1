"""Publishing: what outsiders see always holds, and a database that does not continue it is refused."""

import shutil
import time
from pathlib import Path

import pytest

from audit.errors import MismatchError
from audit.log import read_head, store_checkpoint
from audit.merkle import CompactRange
from audit.note import Checkpoint
from tests.audit.logs import ORG, Log, open_engine


@pytest.mark.parametrize("sizes", [[1], [255], [256], [257], [1, 2, 3], [200, 100], [256, 256], [300, 300, 300, 300]])
def test_what_is_published_in_any_steps_verifies(log: Log, sizes: list[int]) -> None:
    for size in sizes:
        log.append(size)
        log.publish()
        report = log.verify()
        assert report.findings == ()
        assert report.size == report.entries == log.size()


def test_a_log_of_three_levels_verifies(log: Log) -> None:
    log.append(65_536 + 300)
    log.publish()
    log.append(300)
    log.publish()
    report = log.verify()
    assert report.findings == ()
    assert report.size == 66_136
    assert (log.directory / "tile/2/000.p/1").is_file()


def test_the_checkpoint_is_signed_under_the_origin_of_the_organisation(log: Log) -> None:
    log.append(3)
    log.publish()
    checkpoint = Checkpoint.open(log.checkpoint(), [log.signer.verifier], "test/audit/acme")
    assert checkpoint.size == 3
    assert log.checkpoint().count(b"\n") == 5


def test_partial_tiles_go_when_the_full_one_is_there(log: Log) -> None:
    for _ in range(4):
        log.append(80)
        log.publish()
    assert not (log.directory / "tile/entries/000.p").exists()
    assert (log.directory / "tile/entries/000").is_file()
    assert (log.directory / "tile/entries/001.p/64").is_file()
    assert log.verify().findings == ()


def test_publishing_without_news_changes_nothing(log: Log) -> None:
    log.append(5)
    log.publish()
    before = {each: each.stat().st_mtime_ns for each in log.directory.rglob("*")}
    log.publish()
    assert {each: each.stat().st_mtime_ns for each in log.directory.rglob("*")} == before


def test_a_new_entry_is_published_within_a_second(log: Log) -> None:
    publisher = log.publisher()
    publisher.start()
    log.append(1)
    until = time.monotonic() + 1.0
    while not (log.directory / "checkpoint").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert log.verify().size == 1
    log.append(1)
    publisher.close()
    assert publisher.problem is None
    assert log.verify().size == 2


def test_a_deleted_directory_is_published_anew(log: Log) -> None:
    log.append(300)
    log.publish()
    before = log.checkpoint()
    shutil.rmtree(log.published)
    publisher = log.publisher()
    publisher.check()
    publisher.publish()
    assert log.checkpoint() == before
    log.append(1)
    publisher.publish()
    assert log.verify().findings == ()


def test_a_crash_before_the_checkpoint_file_is_finished_by_the_next_start(log: Log) -> None:
    log.append(10)
    log.publish()
    old = log.checkpoint()
    log.append(10)
    log.publish()
    new = log.checkpoint()
    (log.directory / "checkpoint").write_bytes(old)
    assert log.verify().findings == ()
    publisher = log.publisher()
    publisher.check()
    publisher.publish()
    assert log.checkpoint() == new


def test_two_replicas_cannot_sign_different_heads(log: Log) -> None:
    log.append(2)
    with log.engine.begin() as conn:
        head = read_head(conn, ORG)
        assert head is not None
        assert store_checkpoint(conn, head, head.current, "first")
        assert not store_checkpoint(conn, head, head.current, "second")
        assert not store_checkpoint(conn, head, CompactRange().extend([bytes(32)] * 3), "beyond the entries")


def refused(log: Log, match: str) -> None:
    publisher = log.publisher()
    with pytest.raises(MismatchError, match=match):
        publisher.check()


def test_an_older_copy_of_the_database_is_refused(log: Log, tmp_path: Path) -> None:
    log.append(10)
    log.publish()
    log.engine.dispose()
    shutil.copy(log.database, tmp_path / "backup.db")
    log.append(10)
    log.publish()
    log.engine.dispose()
    shutil.copy(tmp_path / "backup.db", log.database)
    log.engine = open_engine(log.database)
    refused(log, "older copy")


def test_an_older_copy_that_was_continued_is_refused(log: Log, tmp_path: Path) -> None:
    log.append(10)
    log.publish()
    log.engine.dispose()
    shutil.copy(log.database, tmp_path / "backup.db")
    log.append(10)
    log.publish()
    log.engine.dispose()
    shutil.copy(tmp_path / "backup.db", log.database)
    log.engine = open_engine(log.database)
    log.append(15)
    refused(log, "different histories")


def test_an_empty_database_beside_a_published_log_is_refused(log: Log) -> None:
    log.append(1)
    log.publish()
    log.execute("DELETE FROM audit_leaf")
    log.execute("DELETE FROM log_head")
    refused(log, "the database none")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE audit_leaf SET leaf = X'7B7D' WHERE idx = 12", "was altered"),
        ("UPDATE audit_leaf SET leaf_hash = zeroblob(32) WHERE idx = 12", "was altered"),
        ("DELETE FROM audit_leaf WHERE idx = 12", "missing"),
        ("DELETE FROM audit_leaf WHERE idx = 14", "missing"),
        ("UPDATE log_head SET size = 14, compact_range = zeroblob(96)", "does not fit"),
        ("UPDATE log_head SET compact_range = zeroblob(128)", "does not fit"),
        ("UPDATE log_head SET published_range = zeroblob(64)", "contradicts the checkpoint"),
    ],
)
def test_entries_that_were_tampered_with_before_they_were_published_are_refused(
    log: Log, statement: str, match: str
) -> None:
    log.append(10)
    log.publish()
    log.append(5)
    log.execute(statement)
    refused(log, match)
    publisher = log.publisher()
    before = log.checkpoint()
    publisher.close()
    assert log.checkpoint() == before, "nothing is signed after a contradiction"
    assert publisher.problem is not None


def test_a_checkpoint_of_another_key_is_refused(log: Log, tmp_path: Path) -> None:
    log.append(1)
    log.publish()
    (tmp_path / "other").mkdir()
    stranger = Log(tmp_path / "other")
    log.signer, own = stranger.signer, log.signer
    refused(log, "no known key")
    log.signer = own
    log.publisher().check()
    stranger.close()
