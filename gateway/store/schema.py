"""The tables of the store. The audit log's are among them, so that one transaction covers a change and its entry."""

from typing import Final

from sqlalchemy import Column, Index, LargeBinary, String, Table, Text

from audit.tables import metadata

__all__ = ["api_key", "metadata", "store_probe"]

api_key: Final = Table(
    "api_key",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("org", String(63), nullable=False),
    Column("owner", Text, nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("revoked_at", String(24)),
    Index("api_key_org", "org"),
)
"""Keys of callers. The secret itself is nowhere: 256 random bits need no slow hash."""

store_probe: Final = Table("store_probe", metadata, Column("filler", LargeBinary, primary_key=True))
"""Always empty: the writer tries here whether it can write again."""
