"""Appending: contiguous indices inside the caller's transaction, on both databases."""

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from audit.entry import build_entry
from audit.errors import MismatchError
from audit.log import (
    Record,
    append,
    append_records,
    erase_payloads,
    find_entries,
    latest_entries,
    read_head,
    read_heads,
    read_leaves,
    read_payloads,
    store_key,
    subject_entries,
)
from audit.merkle import CompactRange, hash_leaf
from audit.tables import metadata
from audit.vault import MasterKey
from tests.audit.logs import ORG, Log, enforcement


def test_indices_are_contiguous_in_the_order_given(log: Log) -> None:
    with log.engine.begin() as conn:
        assert append(conn, ORG, [b"a", b"b"]) == [0, 1]
        assert append(conn, "other", [b"x"]) == [0]
        assert append(conn, ORG, [b"c"]) == [2]
        assert append(conn, ORG, []) == []
    with log.engine.connect() as conn:
        assert [leaf for _, leaf, _ in read_leaves(conn, ORG, 0, 3)] == [b"a", b"b", b"c"]
        head = read_head(conn, ORG)
        assert head is not None
        assert head.current == CompactRange().extend(map(hash_leaf, (b"a", b"b", b"c")))
        assert [each.organization for each in read_heads(conn)] == [ORG, "other"]


def test_a_transaction_that_is_taken_back_leaves_no_gap(log: Log) -> None:
    with log.engine.begin() as conn:
        append(conn, ORG, [b"a"])
    with log.engine.connect() as conn, conn.begin() as transaction:
        append(conn, ORG, [b"lost"])
        transaction.rollback()
    with log.engine.begin() as conn:
        assert append(conn, ORG, [b"b"]) == [1]


def test_records_of_many_organisations_keep_their_places(log: Log) -> None:
    names = ["b", "a", "b", "c", "a", "b"] * 120
    records = [Record(build_entry(name, "enforcement", enforcement())) for name in names]
    with log.engine.begin() as conn:
        indices = append_records(conn, records)
    expected = [names[:at].count(name) for at, name in enumerate(names)]
    assert indices == expected
    with log.engine.connect() as conn:
        for record, index in zip(records[:30], indices, strict=False):
            assert find_entries(conn, record.entry.id) == [(record.entry.organization, index, record.entry.leaf)]
        assert [index for index, _ in latest_entries(conn, "b", 3)] == [359, 358, 357]


def test_entries_are_found_by_decision_and_request(log: Log) -> None:
    fields = enforcement()
    first, second = (build_entry(ORG, "enforcement", fields) for _ in range(2))
    with log.engine.begin() as conn:
        append_records(conn, [Record(first), Record(second)])
    with log.engine.connect() as conn:
        for ref in (fields["decision"], fields["request"]):
            assert [leaf for _, _, leaf in find_entries(conn, ref)] == [first.leaf, second.leaf]
            assert find_entries(conn, ref, "other") == []
        assert find_entries(conn, "' OR 1=1 --") == []


def test_payloads_are_stored_found_by_person_and_erased(log: Log) -> None:
    master = MasterKey(bytes(32))
    key, wrapped = master.create(ORG)
    entry = build_entry(ORG, "enforcement", enforcement())
    sealed = (key.seal(entry.id, "reply", b"reply"), key.seal(entry.id, "request", b"request"))
    with log.engine.begin() as conn:
        assert store_key(conn, ORG, wrapped) == store_key(conn, ORG, b"a second one") == wrapped
        append_records(conn, [Record(entry, sealed, key.pseudonym("subject", "taro"))])
    with log.engine.begin() as conn:
        assert tuple(read_payloads(conn, ORG, entry.id)) == sealed
        assert subject_entries(conn, ORG, key.pseudonym("subject", "taro")) == [entry.id]
        assert erase_payloads(conn, ORG, [entry.id]) == 2
        assert read_payloads(conn, ORG, entry.id) == []
        assert erase_payloads(conn, ORG, [entry.id]) == 0


def test_an_index_cannot_be_written_twice(log: Log) -> None:
    log.append(1)
    with pytest.raises(IntegrityError):
        log.execute("INSERT INTO audit_leaf VALUES (?, 0, ?, ?)", ORG, b"other", bytes(32))


def test_a_missing_entry_is_told(log: Log) -> None:
    log.append(3)
    log.execute("DELETE FROM audit_leaf WHERE idx = 1")
    with log.engine.connect() as conn, pytest.raises(MismatchError, match="entry 1 "):
        list(read_leaves(conn, ORG, 0, 3))


def test_the_tables_can_be_made_on_both_databases() -> None:
    dialects: list[Dialect] = [postgresql.dialect(), sqlite.dialect()]  # type: ignore[no-untyped-call]
    for dialect in dialects:
        for table in metadata.sorted_tables:
            assert table.name in str(CreateTable(table).compile(dialect=dialect))
