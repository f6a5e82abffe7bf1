"""People who decide cases, and their sessions in the console."""

import sqlalchemy as sa
from alembic import op

revision = "users"
down_revision = "outbox"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "console_user",
        sa.Column("folded", sa.String(200), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("org", sa.String(63), nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger()),
    )
    op.create_index("console_user_org", "console_user", ["org"])
    op.create_table(
        "console_session",
        sa.Column("token_sha256", sa.LargeBinary(), primary_key=True),
        sa.Column("folded", sa.String(200), sa.ForeignKey("console_user.folded"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("console_session_folded", "console_session", ["folded"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("console_session")
    op.drop_table("console_user")
