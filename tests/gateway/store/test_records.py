"""The audit trail: durable with its payloads, erasable without breaking a proof."""

import asyncio
import secrets
import sqlite3

import pytest

from audit.errors import EntryError, VaultError
from audit.log import find_entries, read_key, read_payloads
from audit.prove import prove, verify_proof
from gateway.errors import AuditUnavailable
from gateway.store.directory import DataDirectory
from gateway.store.records import SEAL_INLINE, Administrator
from gateway.store.store import Store
from tests.gateway.store.entries import enforcement, verify

ADMIN = Administrator("root")


def payloads(directory: DataDirectory, store: Store, org: str, entry_id: str) -> dict[str, bytes]:
    with store.reader.connect() as conn:
        wrapped = read_key(conn, org)
        assert wrapped is not None
        key = directory.vault_key().unwrap(org, wrapped)
        return {sealed.name: key.open(sealed).payload for sealed in read_payloads(conn, org, entry_id)}


async def test_an_entry_and_its_payloads_are_found_by_every_id(directory: DataDirectory, store: Store) -> None:
    fields = enforcement()
    large = secrets.token_bytes(SEAL_INLINE + 1)
    receipt = await store.trail.record("acme", "enforcement", fields, {"request": b"question", "reply": large})
    with store.reader.connect() as conn:
        for ref in (receipt.entry_id, fields["decision"], fields["request"]):
            ((org, index, leaf),) = find_entries(conn, ref)
            assert (org, index) == ("acme", receipt.index)
            assert b"question" not in leaf
    assert payloads(directory, store, "acme", receipt.entry_id) == {"request": b"question", "reply": large}


async def test_organisations_have_logs_and_keys_of_their_own(directory: DataDirectory, store: Store) -> None:
    names = ["acme", "beta", "acme", "gamma", "beta", "acme"] * 50
    receipts = await asyncio.gather(
        *(store.trail.record(name, "enforcement", enforcement(), {"reply": name.encode()}) for name in names)
    )
    for name in ("acme", "beta", "gamma"):
        own = [receipt.index for receipt, each in zip(receipts, names, strict=True) if each == name]
        assert own == list(range(len(own)))
    with store.reader.connect() as conn:
        assert read_key(conn, "acme") != read_key(conn, "beta")
        sealed = read_payloads(conn, "acme", receipts[0].entry_id)[0]
        wrapped = read_key(conn, "beta")
    assert wrapped is not None
    with pytest.raises(VaultError):
        directory.vault_key().unwrap("beta", wrapped).open(sealed)


async def test_what_is_no_entry_is_refused_and_nothing_is_written(store: Store) -> None:
    with pytest.raises(EntryError):
        await store.trail.record("acme", "enforcement", {**enforcement(), "prompt": "text"})
    assert (await store.trail.record("acme", "enforcement", enforcement())).index == 0


async def test_a_full_disk_is_told_as_audit_unavailable(store: Store) -> None:
    pages = await store.writer.submit_alone(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    await store.writer.submit_alone(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages + 8}").fetchone())
    with pytest.raises(AuditUnavailable):
        await store.trail.record("acme", "enforcement", enforcement(), {"reply": bytes(500_000)})
    assert store.problem is not None
    await store.writer.submit_alone(lambda conn: conn.execute("PRAGMA max_page_count = 100000").fetchone())
    await store.trail.record("acme", "enforcement", enforcement(), {"reply": bytes(50_000)})
    assert store.problem is None


def bytes_of(directory: DataDirectory) -> bytes:
    return b"".join(each.read_bytes() for each in directory.path.rglob("*") if each.is_file())


async def test_erasure_destroys_payload_key_and_salt_and_every_proof_still_holds(
    directory: DataDirectory, store: Store
) -> None:
    secret = b"the patient Taro Yamada has a rare disease"
    count = 400
    receipts = await asyncio.gather(
        *(
            store.trail.record(
                "acme", "enforcement", enforcement(), {"request": secret * (1 + at % 40)}, subject=f"person-{at % 4}"
            )
            for at in range(count)
        )
    )
    with store.reader.connect() as conn:
        sealed = {each.entry_id: read_payloads(conn, "acme", each.entry_id)[0] for each in receipts}
    erased = await store.trail.entries_about("acme", "person-1")
    assert erased == sorted(receipt.entry_id for at, receipt in enumerate(receipts) if at % 4 == 1)
    assert await store.trail.entries_about("acme", "nobody") == []

    erasure = await store.trail.erase("acme", erased, ground="request", by=ADMIN)
    assert (erasure.payloads, erasure.wiped) == (count // 4, True)
    content = bytes_of(directory)
    assert secret not in content, "nothing is ever stored in clear"
    for entry_id, each in sealed.items():
        gone = entry_id in erased
        for piece in (each.wrapped, each.ciphertext[:40], each.ciphertext[-40:]):
            assert (piece not in content) == gone, "the key, the salt inside it, or the ciphertext is left"
    assert payloads(directory, store, "acme", erased[0]) == {}
    assert await store.trail.entries_about("acme", "person-1") == []
    assert payloads(directory, store, "acme", receipts[0].entry_id) == {"request": secret}

    await store.writer.submit_alone(lambda conn: conn.execute("VACUUM").fetchall())
    store.publisher.publish()
    report = verify(directory, "acme")
    assert report.findings == ()
    assert report.size == count + 1
    for receipt in receipts[:40]:
        proof = prove(directory.published / "acme", [store.verifier], receipt.index)
        verify_proof(proof.to_bytes(), [store.verifier])
    with store.reader.connect() as conn:
        ((_, _, leaf),) = find_entries(conn, erasure.receipt.entry_id)
    assert erased[0].encode() in leaf
    assert b"person-1" not in leaf


async def test_a_reader_that_holds_an_old_state_is_reported_by_an_erasure(
    directory: DataDirectory, store: Store
) -> None:
    receipt = await store.trail.record("acme", "enforcement", enforcement(), {"reply": b"text"})
    await store.writer.submit_alone(lambda conn: conn.execute("PRAGMA busy_timeout = 50").fetchall())
    reader = sqlite3.connect(directory.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM audit_leaf").fetchone()
    erasure = await store.trail.erase("acme", [receipt.entry_id], ground="request", by=ADMIN)
    assert (erasure.payloads, erasure.wiped) == (1, False)
    reader.close()
