"""Cases and the rulings on them; the arrows between statuses are kept by triggers."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "cases"
down_revision = "0001"
branch_labels = None
depends_on = None

ARROWS: Final = {
    "pending": ("approved", "denied", "answered", "expired", "withdrawn"),
    "approved": ("consumed", "expired", "withdrawn"),
    "consumed": ("completed", "failed", "outcome_unknown"),
}
IMMUTABLE: Final = (
    "id", "org", "stage", "endpoint", "stream", "key_id", "owner", "subject", "request_id", "decision_id", "domain",
    "policy", "revision", "handling", "approvals", "binding", "reply_digest", "predecessor", "payload_entry",
    "opened_at", "due_at",
)  # fmt: skip
WRITTEN_ONCE: Final = (
    "decided_at", "expires_at", "consumed_at", "finished_at", "replay_until", "reason", "successor",
)  # fmt: skip
RESOLUTIONS: Final = {"denied": "deny", "answered": "answer"}
LIVE: Final = "status IN ('pending', 'approved', 'consumed')"


def upgrade() -> None:
    """Apply."""
    _create_cases()
    _create_rulings()
    dialect = op.get_bind().dialect.name
    for statement in sqlite_triggers() if dialect == "sqlite" else postgresql_triggers():
        op.execute(statement)


def downgrade() -> None:
    """Take back: the cases are lost."""
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION case_guard() CASCADE")
        op.execute("DROP FUNCTION ruling_guard() CASCADE")
    op.drop_table("case_ruling")
    op.drop_table("escalation_case")


def _create_cases() -> None:
    op.create_table(
        "escalation_case",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("org", sa.String(63), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(8), nullable=False),
        sa.Column("endpoint", sa.String(100), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(67)),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("decision_id", sa.String(36), nullable=False),
        sa.Column("domain", sa.Text()),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("revision", sa.String(80), nullable=False),
        sa.Column("handling", sa.Text(), nullable=False),
        sa.Column("approvals", sa.Integer(), nullable=False),
        sa.Column("binding", sa.String(67), nullable=False),
        sa.Column("reply_digest", sa.String(80)),
        sa.Column("predecessor", sa.String(36)),
        sa.Column("payload_entry", sa.String(36), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger()),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("consumed_at", sa.BigInteger()),
        sa.Column("finished_at", sa.BigInteger()),
        sa.Column("replay_until", sa.BigInteger()),
        sa.Column("reason", sa.String(64)),
        sa.Column("successor", sa.String(36)),
        sa.Column("answer_entry", sa.String(36)),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'denied', 'answered', 'expired', 'withdrawn', 'consumed', 'completed', "
            "'failed', 'outcome_unknown')",
            name="case_status",
        ),
        sa.CheckConstraint(
            "(stage = 'request' AND reply_digest IS NULL) OR (stage = 'response' AND reply_digest IS NOT NULL)",
            name="case_stage",
        ),
        sa.CheckConstraint("approvals >= 1 AND due_at >= opened_at", name="case_terms"),
        sa.CheckConstraint(f"(finished_at IS NULL) = ({LIVE})", name="case_finished"),
        sa.CheckConstraint(
            "(consumed_at IS NOT NULL) = (status IN ('consumed', 'completed', 'failed', 'outcome_unknown'))",
            name="case_consumed",
        ),
        sa.CheckConstraint(
            "CASE WHEN status = 'pending' THEN decided_at IS NULL WHEN status IN ('expired', 'withdrawn') THEN TRUE "
            "ELSE decided_at IS NOT NULL END",
            name="case_decided",
        ),
        sa.CheckConstraint(
            "CASE WHEN status IN ('pending', 'denied', 'answered') THEN expires_at IS NULL "
            "WHEN status IN ('expired', 'withdrawn') THEN (expires_at IS NULL) = (decided_at IS NULL) "
            "ELSE expires_at IS NOT NULL END",
            name="case_expires",
        ),
        sa.CheckConstraint("(replay_until IS NOT NULL) = (status = 'completed')", name="case_replay"),
        sa.CheckConstraint("answer_entry IS NULL OR status = 'completed'", name="case_answer"),
        sa.CheckConstraint(
            "CASE WHEN status IN ('expired', 'withdrawn', 'failed', 'outcome_unknown') THEN reason IS NOT NULL "
            "WHEN status = 'completed' THEN TRUE ELSE reason IS NULL END",
            name="case_reason",
        ),
    )
    op.create_index("case_binding", "escalation_case", ["org", "binding", "id"])
    op.create_index(
        "case_live",
        "escalation_case",
        ["org", "binding"],
        unique=True,
        sqlite_where=sa.text(LIVE),
        postgresql_where=sa.text(LIVE),
    )
    op.create_index("case_queue", "escalation_case", ["org", "status", "id"])
    for name, columns, where in (
        ("case_due", ["due_at"], "status = 'pending'"),
        ("case_expiry", ["expires_at"], "status = 'approved'"),
        ("case_running", ["consumed_at"], "status = 'consumed'"),
        ("case_replayable", ["replay_until"], "answer_entry IS NOT NULL"),
        ("case_key", ["org", "key_id"], "status = 'pending'"),
    ):
        only = sa.text(where)
        op.create_index(name, "escalation_case", columns, sqlite_where=only, postgresql_where=only)


def _create_rulings() -> None:
    op.create_table(
        "case_ruling",
        sa.Column("case_id", sa.String(36), sa.ForeignKey("escalation_case.id"), primary_key=True),
        sa.Column("reviewer", sa.String(200), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("auth", sa.String(8), nullable=False),
        sa.Column("ruled_at", sa.BigInteger(), nullable=False),
        sa.Column("lesson", sa.String(8)),
        sa.Column("entry_id", sa.String(36), nullable=False),
        sa.CheckConstraint("kind IN ('approve', 'deny', 'answer')", name="ruling_kind"),
        sa.CheckConstraint("auth IN ('cli', 'console')", name="ruling_auth"),
        sa.CheckConstraint(
            "lesson IS NULL OR (lesson = 'allow' AND kind = 'approve') OR (lesson = 'refuse' AND kind = 'deny')",
            name="ruling_lesson",
        ),
    )


def _refusals(distinct: str) -> list[tuple[str, str]]:
    """Return (condition, message) of each update of a case that is refused; ``distinct`` compares with null."""
    arrows = " OR ".join(
        f"(OLD.status = '{before}' AND NEW.status = '{after}')" for before, afters in ARROWS.items() for after in afters
    )
    changed = " OR ".join(f"NEW.{each} {distinct} OLD.{each}" for each in IMMUTABLE)
    rewritten = " OR ".join(f"(OLD.{each} IS NOT NULL AND NEW.{each} {distinct} OLD.{each})" for each in WRITTEN_ONCE)
    unmoved = " OR ".join(f"NEW.{each} {distinct} OLD.{each}" for each in WRITTEN_ONCE if each != "successor")
    rulings = "(SELECT count(*) FROM case_ruling WHERE case_id = OLD.id AND kind = '{kind}')"
    decisive = " OR ".join(
        f"(NEW.status = '{status}' AND {rulings.format(kind=kind)} = 0)" for status, kind in RESOLUTIONS.items()
    )
    approved = "OLD.status = 'pending' AND NEW.status = 'approved'"
    return [
        (f"NEW.status <> OLD.status AND NOT ({arrows})", "a case cannot take this arrow"),
        (changed, "what a case was opened with cannot change"),
        (rewritten, "what happened to a case cannot change"),
        (
            f"OLD.status = NEW.status AND ({unmoved})",
            "what happened to a case changes only with its status",
        ),
        (
            f"NEW.answer_entry IS NOT NULL AND NEW.answer_entry {distinct} OLD.answer_entry "
            "AND OLD.status <> 'consumed'",
            "an answer is stored once",
        ),
        (
            f"{approved} AND ({rulings.format(kind='approve')} < OLD.approvals OR {rulings.format(kind='deny')} > 0)",
            "a case needs its approvals",
        ),
        (decisive, "a case needs a ruling"),
    ]


def sqlite_triggers() -> list[str]:
    """Return the guards for SQLite."""
    pending = "(SELECT status FROM escalation_case WHERE id = NEW.case_id) IS NOT 'pending'"
    return [
        _sqlite("case_arrow", "UPDATE ON escalation_case", _refusals("IS NOT")),
        _sqlite("case_begin", "INSERT ON escalation_case", [("NEW.status <> 'pending'", "a case begins as pending")]),
        _sqlite("case_keep", "DELETE ON escalation_case", [("TRUE", "a case is never deleted")]),
        _sqlite("ruling_begin", "INSERT ON case_ruling", [(pending, "the case is not pending")]),
        _sqlite("ruling_fixed", "UPDATE ON case_ruling", [("TRUE", "a ruling never changes")]),
        _sqlite("ruling_keep", "DELETE ON case_ruling", [("TRUE", "a ruling is never deleted")]),
    ]


def _sqlite(name: str, event: str, refusals: list[tuple[str, str]]) -> str:
    whens = " ".join(f"WHEN {condition} THEN RAISE(ABORT, '{message}')" for condition, message in refusals)
    return f"CREATE TRIGGER {name} BEFORE {event} FOR EACH ROW BEGIN SELECT CASE {whens} END; END"


def postgresql_triggers() -> list[str]:
    """Return the guards for PostgreSQL."""
    updates = "".join(
        f"IF {condition} THEN {_raise(message)} END IF; " for condition, message in _refusals("IS DISTINCT FROM")
    )
    return [
        "CREATE FUNCTION case_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'DELETE' THEN {_raise('a case is never deleted')} END IF; "
        f"IF TG_OP = 'INSERT' THEN IF NEW.status <> 'pending' THEN {_raise('a case begins as pending')} END IF; "
        f"RETURN NEW; END IF; {updates}RETURN NEW; END $$",
        "CREATE TRIGGER case_guard BEFORE INSERT OR UPDATE OR DELETE ON escalation_case "
        "FOR EACH ROW EXECUTE FUNCTION case_guard()",
        "CREATE FUNCTION ruling_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608 - own names
        f"IF TG_OP <> 'INSERT' THEN {_raise('a ruling never changes')} END IF; "
        "IF (SELECT status FROM escalation_case WHERE id = NEW.case_id FOR UPDATE) IS DISTINCT FROM 'pending' "
        f"THEN {_raise('the case is not pending')} END IF; RETURN NEW; END $$",
        "CREATE TRIGGER ruling_guard BEFORE INSERT OR UPDATE OR DELETE ON case_ruling "
        "FOR EACH ROW EXECUTE FUNCTION ruling_guard()",
    ]


def _raise(message: str) -> str:
    return f"RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation';"
