"""The tables of the log and of the vault. ``metadata`` is shared with the store, so that one transaction covers all."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, String, Table, Text

metadata: Final = MetaData()

audit_leaf: Final = Table(
    "audit_leaf",
    metadata,
    Column("org", String(63), primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

log_head: Final = Table(
    "log_head",
    metadata,
    Column("org", String(63), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("compact_range", LargeBinary, nullable=False),
    Column("published_size", BigInteger, nullable=False),
    Column("published_range", LargeBinary, nullable=False),
    Column("checkpoint", Text),
)
"""``size`` and ``compact_range`` of everything appended; ``published_*`` as of the last signed ``checkpoint``."""

audit_ref: Final = Table(
    "audit_ref",
    metadata,
    Column("org", String(63), primary_key=True),
    Column("ref", String(36), primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Where entries are found by id, decision or request. Only a convenience: no proof rests on it."""

vault_record: Final = Table(
    "vault_record",
    metadata,
    Column("org", String(63), primary_key=True),
    Column("entry_id", String(36), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("commitment", String(74), nullable=False),
    Column("subject", String(67)),
    Column("ciphertext", LargeBinary, nullable=False),
    Index("vault_record_subject", "org", "subject"),
)
"""Sealed payloads: erasable. ``subject`` is the pseudonym of the person whom the data is about."""

vault_key: Final = Table(
    "vault_key",
    metadata,
    Column("org", String(63), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)
