"""What people are told about cases."""

import sqlalchemy as sa
from alembic import op

revision = "outbox"
down_revision = "cases"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("org", sa.String(63), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger()),
        sa.Column("last_error", sa.String(200)),
        sa.Column("delivered_at", sa.BigInteger()),
        sa.UniqueConstraint("case_id", "kind", "channel", "target", name="delivery_once"),
        sa.CheckConstraint("state IN ('waiting', 'leased', 'delivered', 'dead', 'dropped')", name="delivery_state"),
        sa.CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="delivery_lease"),
        sa.CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivery_delivered"),
        sa.CheckConstraint("state <> 'dead' OR last_error IS NOT NULL", name="delivery_dead"),
    )
    op.create_index(
        "delivery_due",
        "delivery",
        ["next_at"],
        sqlite_where=sa.text("state IN ('waiting', 'leased')"),
        postgresql_where=sa.text("state IN ('waiting', 'leased')"),
    )
    op.create_index(
        "delivery_dead_letters",
        "delivery",
        ["case_id"],
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )


def downgrade() -> None:
    """Take back; what was not yet delivered is forgotten."""
    op.drop_table("delivery")
