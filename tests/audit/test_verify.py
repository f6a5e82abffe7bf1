"""Verifying: every tampering is found, by the bytes alone or with the database; proofs hold offline."""

import random
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from audit.errors import AuditError, ProofError
from audit.merkle import CompactRange, hash_leaf
from audit.note import Checkpoint, Signer
from audit.prove import find_published, prove, verify_proof
from audit.tables import audit_leaf
from audit.tiles import encode_bundle
from tests.audit.logs import Log

SIZES = (100, 250, 90, 160)
"""Four steps: two full tiles of entries, partial ones of several widths, two levels."""


@pytest.fixture
def published(log: Log) -> Log:
    for size in SIZES:
        log.append(size)
        log.publish()
    assert log.verify().findings == ()
    return log


def files_of(log: Log) -> list[Path]:
    return sorted(each for each in log.directory.rglob("*") if each.is_file())


def test_every_sampled_byte_flip_of_every_file_is_found_without_the_database(published: Log) -> None:
    rng = random.Random(6962)
    files = files_of(published)
    flips = [(file, rng.randrange(file.stat().st_size), 1 << rng.randrange(8)) for file in files for _ in range(40)]
    sizes = [file.stat().st_size for file in files]
    for file in rng.choices(files, weights=sizes, k=200):
        flips.append((file, rng.randrange(file.stat().st_size), 1 << rng.randrange(8)))
    assert len(flips) >= 500
    for file, at, bit in flips:
        good = file.read_bytes()
        file.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        assert not published.verify(database=False).holds, f"{file} byte {at}"
        file.write_bytes(good)
    assert published.verify().holds


@pytest.mark.parametrize("column", ["leaf", "leaf_hash"])
def test_every_sampled_byte_flip_in_the_database_is_found_at_its_index(published: Log, column: str) -> None:
    rng = random.Random(9162)
    with published.engine.connect() as conn:
        rows = {row.idx: getattr(row, column) for row in conn.execute(select(audit_leaf))}
    for index in rng.sample(sorted(rows), 120):
        good = rows[index]
        at = rng.randrange(len(good))
        statement = f"UPDATE audit_leaf SET {column} = ? WHERE idx = ?"  # noqa: S608
        published.execute(statement, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], index)
        assert published.verify().first_index == index
        published.execute(statement, good, index)
    assert published.verify().holds


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("DELETE FROM audit_leaf WHERE idx = 300", 300),
        ("DELETE FROM audit_leaf WHERE idx >= 590", 590),
        ("DELETE FROM audit_leaf", 0),
        ("UPDATE audit_leaf SET idx = -1 WHERE idx = 7", 7),
        (
            "UPDATE audit_leaf SET (leaf, leaf_hash) = (SELECT leaf, leaf_hash FROM audit_leaf WHERE idx = 5) "
            "WHERE idx = 4",
            4,
        ),
        ("DELETE FROM log_head", None),
        ("UPDATE log_head SET size = size - 1, compact_range = zeroblob(160)", None),
    ],
)
def test_a_database_that_lost_or_moved_entries_is_found(published: Log, statement: str, index: int | None) -> None:
    published.execute(statement)
    report = published.verify()
    assert not report.holds
    assert report.first_index == index
    assert published.verify(database=False).holds, "the published log is untouched"


def test_two_entries_that_changed_places_are_found(published: Log) -> None:
    for first, second in ((4, -1), (5, 4), (-1, 5)):
        published.execute("UPDATE audit_leaf SET idx = ? WHERE idx = ?", second, first)
    assert published.verify().first_index == 4


def test_unpublished_entries_that_were_altered_are_found(published: Log) -> None:
    published.append(5)
    assert published.verify().entries == sum(SIZES) + 5
    published.execute("UPDATE audit_leaf SET leaf = X'7B7D' WHERE idx = 603")
    assert published.verify().first_index == 603
    published.execute("DELETE FROM audit_leaf WHERE idx >= 603")
    assert not published.verify().holds


def test_every_missing_file_is_found(published: Log) -> None:
    size = sum(SIZES)
    needed = [file for file in files_of(published) if ".p" not in file.parent.name]
    needed += [published.directory / f"tile/{level}/002.p/{size % 256}" for level in ("entries", "0")]
    needed.append(published.directory / "tile/1/000.p/2")
    for file in needed:
        good = file.read_bytes()
        file.unlink()
        assert not published.verify(database=False).holds, file
        file.write_bytes(good)


def test_truncated_extended_and_foreign_files_are_found(published: Log) -> None:
    for file in files_of(published):
        good = file.read_bytes()
        for bad in (b"", good[:-1], good + b"\0"):
            file.write_bytes(bad)
            assert not published.verify(database=False).holds, file
        file.write_bytes(good)
    (published.directory / "tile" / "notes.txt").write_bytes(b"hello")
    assert "does not belong" in published.verify().findings[0].what


def test_a_rewritten_history_with_matching_tiles_is_found_by_the_signature(published: Log) -> None:
    entries = [f"entry {at}".encode() for at in range(10)]
    hashes = [hash_leaf(each) for each in entries]
    shutil.rmtree(published.directory)
    (published.directory / "tile/entries/000.p").mkdir(parents=True)
    (published.directory / "tile/0/000.p").mkdir(parents=True)
    (published.directory / "tile/entries/000.p/10").write_bytes(encode_bundle(entries))
    (published.directory / "tile/0/000.p/10").write_bytes(b"".join(hashes))
    forged = Signer.generate("test/audit").sign(
        Checkpoint(published.origin, 10, CompactRange().extend(hashes).root).text()
    )
    (published.directory / "checkpoint").write_bytes(forged)
    assert "no known key" in published.verify(database=False).findings[0].what


def test_an_older_copy_of_the_published_log_is_found_with_the_database(log: Log, tmp_path: Path) -> None:
    log.append(10)
    log.publish()
    shutil.copytree(log.published, tmp_path / "backup")
    log.append(300)
    log.publish()
    shutil.rmtree(log.published)
    shutil.copytree(tmp_path / "backup", log.published)
    assert log.verify(database=False).holds, "alone it is a valid log"
    assert not log.verify().holds


def test_an_earlier_checkpoint_anchors_the_past(published: Log) -> None:
    old = published.checkpoint()
    published.append(300)
    published.publish()
    assert published.verify(since=old).holds
    hashes = [bytes(32)] * 5
    forged = published.signer.sign(Checkpoint(published.origin, 5, CompactRange().extend(hashes).root).text())
    assert "not what they were" in published.verify(since=forged).findings[0].what
    beyond = published.signer.sign(Checkpoint(published.origin, 5000, bytes(32)).text())
    assert "had 5000" in published.verify(since=beyond).findings[0].what
    assert not published.verify(since=b"nonsense").holds


def test_a_log_whose_first_entry_is_not_published_yet_holds(log: Log) -> None:
    log.append(1)
    assert log.verify().findings == ()
    log.publish()
    (log.directory / "checkpoint").unlink()
    assert "missing" in log.verify().findings[0].what
    assert not log.verify(database=False).holds


@pytest.mark.parametrize("index", [0, 1, 255, 256, 511, 512, 598, 599])
def test_a_proof_holds_offline_and_not_for_another_log_or_key(published: Log, index: int) -> None:
    verifiers = [published.signer.verifier]
    data = prove(published.directory, verifiers, index, origin=published.origin).to_bytes()
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nextra ")
    proof, checkpoint = verify_proof(data, verifiers, origin=published.origin)
    assert published.ids[index].encode() in proof.entry
    assert (proof.index, checkpoint.size) == (index, 600)
    with pytest.raises(ProofError):
        verify_proof(data, [Signer.generate("test/audit").verifier])
    with pytest.raises(ProofError):
        verify_proof(data, verifiers, origin="test/audit/other")


def test_every_byte_flip_of_a_proof_is_found(published: Log) -> None:
    verifiers = [published.signer.verifier]
    data = prove(published.directory, verifiers, 259).to_bytes()
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        with pytest.raises(AuditError):
            verify_proof(flipped, verifiers)


def test_what_is_not_published_cannot_be_proved(published: Log) -> None:
    published.append(1)
    for index in (600, -1):
        with pytest.raises(ProofError, match="not published"):
            prove(published.directory, [published.signer.verifier], index)
    with pytest.raises(ProofError, match="missing"):
        prove(published.path / "nowhere", [published.signer.verifier], 0)


def test_an_entry_is_found_in_the_published_log_alone(published: Log) -> None:
    assert find_published(published.directory, 600, published.ids[257]) == 257
    assert find_published(published.directory, 600, "0199f3a0-0000-7000-8000-000000000003") is None
