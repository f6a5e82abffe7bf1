"""The log in the database: appending, and reading back.

Everything here runs inside the caller's transaction, on SQLite and PostgreSQL alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, Table, delete, select, text, update

from audit.entry import Entry
from audit.errors import MismatchError
from audit.merkle import CompactRange, hash_leaf
from audit.tables import audit_leaf, audit_ref, log_head, vault_key, vault_record
from audit.vault import Sealed


@dataclass(frozen=True, slots=True)
class Record:
    """An entry with the sealed payloads that it commits to."""

    entry: Entry
    payloads: tuple[Sealed, ...] = ()
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The state of one organisation's log. ``checkpoint`` is the last that was signed, over ``published``."""

    organization: str
    current: CompactRange
    published: CompactRange
    checkpoint: str | None


_MAX_ROWS: Final = 256
_ADD_HEAD: Final = (
    "INSERT INTO log_head (org, size, compact_range, published_size, published_range) "
    "VALUES (?, 0, ?, 0, ?) ON CONFLICT (org) DO NOTHING"
)
_READ_HEAD: Final = "SELECT size, compact_range FROM log_head WHERE org = ?"
_MOVE_HEAD: Final = "UPDATE log_head SET size = ?, compact_range = ? WHERE org = ? AND size = ?"


def _head(row: Any) -> Head:
    current = CompactRange.from_bytes(row.size, row.compact_range)
    published = CompactRange.from_bytes(row.published_size, row.published_range)
    return Head(row.org, current, published, row.checkpoint)


def read_heads(conn: Connection) -> list[Head]:
    """Return the heads of all logs."""
    return [_head(row) for row in conn.execute(select(log_head).order_by(log_head.c.org))]


def read_head(conn: Connection, organization: str) -> Head | None:
    """Return the head of one log, None before its first entry."""
    row = conn.execute(select(log_head).where(log_head.c.org == organization)).first()
    return None if row is None else _head(row)


def _run(conn: Connection, statement: str, *values: object) -> CursorResult[Any]:
    """Run a prepared statement without SQLAlchemy's compiler, which costs more than the statement itself."""
    if conn.dialect.paramstyle != "qmark":
        statement = statement.replace("?", "%s")
    return conn.exec_driver_sql(statement, values)


def _lock_head(conn: Connection, organization: str) -> CompactRange:
    query = _READ_HEAD if conn.dialect.name == "sqlite" else f"{_READ_HEAD} FOR UPDATE"
    row = _run(conn, query, organization).first()
    if row is None:
        _run(conn, _ADD_HEAD, organization, b"", b"")
        row = _run(conn, query, organization).one()
    return CompactRange.from_bytes(row.size, row.compact_range)


def append(conn: Connection, organization: str, leaves: Sequence[bytes]) -> list[int]:
    """Append ``leaves`` to the organisation's log and return their indices: contiguous, in the order given.

    They exist once the caller's transaction commits; until then nobody else can append to the same log.
    """
    if not leaves:
        return []
    head = _lock_head(conn, organization)
    hashes = [hash_leaf(leaf) for leaf in leaves]
    indices = list(range(head.size, head.size + len(leaves)))
    rows = [(organization, *row) for row in zip(indices, leaves, hashes, strict=True)]
    insert_rows(conn, audit_leaf, rows)
    grown = head.extend(hashes)
    moved = _run(conn, _MOVE_HEAD, grown.size, grown.to_bytes(), organization, head.size)
    if moved.rowcount != 1:
        raise MismatchError(f"somebody else appended to the log of `{organization}`")
    return indices


def append_records(conn: Connection, records: Sequence[Record]) -> list[int]:
    """Append the entries of ``records``, of any organisations, with their payloads; return the indices in order."""
    grouped: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        grouped.setdefault(record.entry.organization, []).append(position)
    indices = [0] * len(records)
    for organization in sorted(grouped):  # one order for all replicas: no deadlock
        positions = grouped[organization]
        leaves = [records[position].entry.leaf for position in positions]
        for position, index in zip(positions, append(conn, organization, leaves), strict=True):
            indices[position] = index
    refs = [
        (record.entry.organization, ref, index)
        for record, index in zip(records, indices, strict=True)
        for ref in record.entry.refs
    ]
    insert_rows(conn, audit_ref, refs)
    payloads = [
        (
            sealed.organization,
            sealed.entry_id,
            sealed.name,
            sealed.nonce,
            sealed.wrapped,
            sealed.commitment,
            record.subject,
            sealed.ciphertext,
        )
        for record in records
        for sealed in record.payloads
    ]
    insert_rows(conn, vault_record, payloads)
    return indices


def insert_rows(conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert ``rows``, with a value for each column in the table's order, in few statements of many rows.

    Python's sqlite3 lets go of the interpreter lock for every step: with executemany a busy event loop would delay
    each row by up to the switch interval. Widths are powers of two, so that all statements stay prepared.
    """
    mark = "?" if conn.dialect.paramstyle == "qmark" else "%s"
    at = 0
    while at < len(rows):
        width = min(_MAX_ROWS, 1 << ((len(rows) - at).bit_length() - 1))
        statement = _insertion(table.name, tuple(table.c.keys()), width, mark)
        conn.exec_driver_sql(statement, tuple(chain.from_iterable(rows[at : at + width])))
        at += width


@lru_cache(maxsize=256)
def _insertion(table: str, columns: tuple[str, ...], width: int, mark: str) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * width)}"  # noqa: S608 - own names


def read_leaves(conn: Connection, organization: str, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (index, leaf, leaf hash) of the entries ``[start, end)``; MismatchError when one is missing."""
    query = (
        select(audit_leaf.c.idx, audit_leaf.c.leaf, audit_leaf.c.leaf_hash)
        .where(audit_leaf.c.org == organization, audit_leaf.c.idx >= start, audit_leaf.c.idx < end)
        .order_by(audit_leaf.c.idx)
    )
    expected = start
    for index, leaf, leaf_hash in conn.execution_options(yield_per=1024).execute(query):
        if index != expected:
            break
        yield index, leaf, leaf_hash
        expected += 1
    if expected != end:
        raise MismatchError(f"entry {expected} of organisation `{organization}` is missing from the database")


def find_entries(conn: Connection, ref: str, organization: str | None = None) -> list[tuple[str, int, bytes]]:
    """Return (organisation, index, leaf) of the entries with this id, decision id or request id, oldest first."""
    query = (
        select(audit_leaf.c.org, audit_leaf.c.idx, audit_leaf.c.leaf)
        .join(audit_ref, (audit_ref.c.org == audit_leaf.c.org) & (audit_ref.c.idx == audit_leaf.c.idx))
        .where(audit_ref.c.ref == ref)
        .order_by(audit_leaf.c.org, audit_leaf.c.idx)
    )
    if organization is None:
        query = query.where(audit_ref.c.org.in_(select(log_head.c.org)))
    else:
        query = query.where(audit_ref.c.org == organization)
    return [(row.org, row.idx, row.leaf) for row in conn.execute(query)]


def latest_entries(conn: Connection, organization: str, limit: int) -> list[tuple[int, bytes]]:
    """Return (index, leaf) of the newest entries, newest first."""
    query = (
        select(audit_leaf.c.idx, audit_leaf.c.leaf)
        .where(audit_leaf.c.org == organization)
        .order_by(audit_leaf.c.idx.desc())
        .limit(limit)
    )
    return [(row.idx, row.leaf) for row in conn.execute(query)]


def read_payloads(conn: Connection, organization: str, entry_id: str) -> list[Sealed]:
    """Return the sealed payloads of an entry that are not erased."""
    query = select(vault_record).where(vault_record.c.org == organization, vault_record.c.entry_id == entry_id)
    return [
        Sealed(row.org, row.entry_id, row.name, row.nonce, row.wrapped, row.ciphertext, row.commitment)
        for row in conn.execute(query.order_by(vault_record.c.name))
    ]


def erase_payloads(conn: Connection, organization: str, entry_ids: Sequence[str]) -> int:
    """Destroy the payloads of these entries with their keys and salts; return how many there were."""
    query = delete(vault_record).where(vault_record.c.org == organization, vault_record.c.entry_id.in_(entry_ids))
    return conn.execute(query).rowcount


def subject_entries(conn: Connection, organization: str, subject: str) -> list[str]:
    """Return the ids of the entries whose payloads are about the person with this pseudonym."""
    query = select(vault_record.c.entry_id).where(vault_record.c.org == organization, vault_record.c.subject == subject)
    return list(conn.execute(query.distinct().order_by(vault_record.c.entry_id)).scalars())


def read_key(conn: Connection, organization: str) -> bytes | None:
    """Return the organisation's wrapped key, None before its first payload."""
    return conn.execute(select(vault_key.c.wrapped).where(vault_key.c.org == organization)).scalar_one_or_none()


def store_key(conn: Connection, organization: str, wrapped: bytes) -> bytes:
    """Store the organisation's wrapped key unless it has one; return the one that counts."""
    statement = text("INSERT INTO vault_key (org, wrapped) VALUES (:org, :wrapped) ON CONFLICT (org) DO NOTHING")
    conn.execute(statement, {"org": organization, "wrapped": wrapped})
    stored: bytes = conn.execute(select(vault_key.c.wrapped).where(vault_key.c.org == organization)).scalar_one()
    return stored


def store_checkpoint(conn: Connection, head: Head, published: CompactRange, checkpoint: str) -> bool:
    """Make ``checkpoint`` the last one unless another replica signed since ``head`` was read; tell whether it is.

    A compare-and-swap, so that no two replicas can publish heads that contradict each other.
    """
    last = log_head.c.checkpoint
    same = last.is_(None) if head.checkpoint is None else last == head.checkpoint
    statement = (
        update(log_head)
        .where(log_head.c.org == head.organization, same, log_head.c.size >= published.size)
        .values(checkpoint=checkpoint, published_size=published.size, published_range=published.to_bytes())
    )
    return conn.execute(statement).rowcount == 1
