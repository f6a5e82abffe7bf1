"""The log, the vault and the keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "audit_leaf",
        sa.Column("org", sa.String(63), primary_key=True),
        sa.Column("idx", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_head",
        sa.Column("org", sa.String(63), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("compact_range", sa.LargeBinary(), nullable=False),
        sa.Column("published_size", sa.BigInteger(), nullable=False),
        sa.Column("published_range", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint", sa.Text()),
    )
    op.create_table(
        "audit_ref",
        sa.Column("org", sa.String(63), primary_key=True),
        sa.Column("ref", sa.String(36), primary_key=True),
        sa.Column("idx", sa.BigInteger(), primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "vault_record",
        sa.Column("org", sa.String(63), primary_key=True),
        sa.Column("entry_id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("commitment", sa.String(74), nullable=False),
        sa.Column("subject", sa.String(67)),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
    )
    op.create_index("vault_record_subject", "vault_record", ["org", "subject"])
    op.create_table(
        "vault_key",
        sa.Column("org", sa.String(63), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("org", sa.String(63), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("revoked_at", sa.String(24)),
    )
    op.create_index("api_key_org", "api_key", ["org"])
    op.create_table("store_probe", sa.Column("filler", sa.LargeBinary(), primary_key=True))


def downgrade() -> None:
    """Take back: not possible without losing the log."""
    raise NotImplementedError("the first revision cannot be taken back")
