"""What decisions were made from."""

import sqlalchemy as sa
from alembic import op

revision = "inputs"
down_revision = "users"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "policy_input",
        sa.Column("decision_id", sa.String(36), primary_key=True),
        sa.Column("org", sa.String(63), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.String(8), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("label", sa.String(8), nullable=False),
        sa.Column("allow", sa.Float(), nullable=False),
        sa.Column("refuse", sa.Float(), nullable=False),
        sa.Column("escalate", sa.Float(), nullable=False),
        sa.Column("domain", sa.String(64)),
        sa.Column("domains", sa.Text(), nullable=False),
        sa.Column("readings", sa.Text(), nullable=False),
        sa.Column("unjudged", sa.Text(), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=False),
        sa.Column("calls", sa.Text(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("risk", sa.Float()),
        sa.Column("judged_bytes", sa.BigInteger(), nullable=False),
        sa.Column("limit_refuse", sa.Float()),
        sa.Column("limit_escalate", sa.Float()),
        sa.Column("effect", sa.String(8), nullable=False),
        sa.Column("decided_domain", sa.String(64)),
        sa.Column("route", sa.String(64)),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(64), nullable=False),
        sa.Column("revision", sa.String(80), nullable=False),
        sa.Column("shadow_effect", sa.String(8)),
        sa.Column("shadow_reasons", sa.Text()),
        sa.Column("shadow_revision", sa.String(80)),
        sa.Column("acted", sa.String(8), nullable=False),
        sa.CheckConstraint("acted IN ('current', 'shadow')", name="input_acted"),
    )
    op.create_index("policy_input_at", "policy_input", ["org", "at"])


def downgrade() -> None:
    """Take back; the past can no longer be replayed."""
    op.drop_table("policy_input")
