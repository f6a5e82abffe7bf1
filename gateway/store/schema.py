"""The tables of the store. The audit log's are among them, so that one transaction covers a change and its entry."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from audit.tables import metadata

__all__ = [
    "api_key",
    "case_ruling",
    "console_session",
    "console_user",
    "delivery",
    "escalation_case",
    "metadata",
    "policy_input",
    "store_probe",
]

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

_LIVE: Final = "status IN ('pending', 'approved', 'consumed')"

escalation_case: Final = Table(
    "escalation_case",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("org", String(63), nullable=False),
    Column("status", String(16), nullable=False),
    Column("stage", String(8), nullable=False),
    Column("endpoint", String(100), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("owner", Text, nullable=False),
    Column("subject", String(67)),
    Column("request_id", String(36), nullable=False),
    Column("decision_id", String(36), nullable=False),
    Column("domain", Text),
    Column("policy", Text, nullable=False),
    Column("revision", String(80), nullable=False),
    Column("handling", Text, nullable=False),
    Column("approvals", Integer, nullable=False),
    Column("binding", String(67), nullable=False),
    Column("reply_digest", String(80)),
    Column("predecessor", String(36)),
    Column("payload_entry", String(36), nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("consumed_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("replay_until", BigInteger),
    Column("reason", String(64)),
    Column("successor", String(36)),
    Column("answer_entry", String(36)),
    CheckConstraint(
        "status IN ('pending', 'approved', 'denied', 'answered', 'expired', 'withdrawn', 'consumed', 'completed', "
        "'failed', 'outcome_unknown')",
        name="case_status",
    ),
    CheckConstraint(
        "(stage = 'request' AND reply_digest IS NULL) OR (stage = 'response' AND reply_digest IS NOT NULL)",
        name="case_stage",
    ),
    CheckConstraint("approvals >= 1 AND due_at >= opened_at", name="case_terms"),
    CheckConstraint("(finished_at IS NULL) = (status IN ('pending', 'approved', 'consumed'))", name="case_finished"),
    CheckConstraint(
        "(consumed_at IS NOT NULL) = (status IN ('consumed', 'completed', 'failed', 'outcome_unknown'))",
        name="case_consumed",
    ),
    CheckConstraint(
        "CASE WHEN status = 'pending' THEN decided_at IS NULL WHEN status IN ('expired', 'withdrawn') THEN TRUE "
        "ELSE decided_at IS NOT NULL END",
        name="case_decided",
    ),
    CheckConstraint(
        "CASE WHEN status IN ('pending', 'denied', 'answered') THEN expires_at IS NULL "
        "WHEN status IN ('expired', 'withdrawn') THEN (expires_at IS NULL) = (decided_at IS NULL) "
        "ELSE expires_at IS NOT NULL END",
        name="case_expires",
    ),
    CheckConstraint("(replay_until IS NOT NULL) = (status = 'completed')", name="case_replay"),
    CheckConstraint("answer_entry IS NULL OR status = 'completed'", name="case_answer"),
    CheckConstraint(
        "CASE WHEN status IN ('expired', 'withdrawn', 'failed', 'outcome_unknown') THEN reason IS NOT NULL "
        "WHEN status = 'completed' THEN TRUE ELSE reason IS NULL END",
        name="case_reason",
    ),
    Index("case_binding", "org", "binding", "id"),
    Index("case_live", "org", "binding", unique=True, sqlite_where=text(_LIVE), postgresql_where=text(_LIVE)),
    Index("case_queue", "org", "status", "id"),
    Index(
        "case_due",
        "due_at",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    Index(
        "case_expiry",
        "expires_at",
        sqlite_where=text("status = 'approved'"),
        postgresql_where=text("status = 'approved'"),
    ),
    Index(
        "case_running",
        "consumed_at",
        sqlite_where=text("status = 'consumed'"),
        postgresql_where=text("status = 'consumed'"),
    ),
    Index(
        "case_replayable",
        "replay_until",
        sqlite_where=text("answer_entry IS NOT NULL"),
        postgresql_where=text("answer_entry IS NOT NULL"),
    ),
    Index(
        "case_key",
        "org",
        "key_id",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
)
"""Cases. Triggers of the migration ``cases`` refuse every arrow that is not allowed, every change of what a case was
opened with, and every deletion. ``handling`` is JSON; ``subject`` is a pseudonym.
"""

case_ruling: Final = Table(
    "case_ruling",
    metadata,
    Column("case_id", String(36), ForeignKey("escalation_case.id"), primary_key=True),
    Column("reviewer", String(200), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("auth", String(8), nullable=False),
    Column("ruled_at", BigInteger, nullable=False),
    Column("lesson", String(8)),
    Column("entry_id", String(36), nullable=False),
    CheckConstraint("kind IN ('approve', 'deny', 'answer')", name="ruling_kind"),
    CheckConstraint("auth IN ('cli', 'console')", name="ruling_auth"),
    CheckConstraint(
        "lesson IS NULL OR (lesson = 'allow' AND kind = 'approve') OR (lesson = 'refuse' AND kind = 'deny')",
        name="ruling_lesson",
    ),
)
"""What reviewers did: one row a reviewer and case, never changed. ``reviewer`` is the folded ``name``."""

delivery: Final = Table(
    "delivery",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("org", String(63), nullable=False),
    Column("case_id", String(36), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("target", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger),
    Column("last_error", String(200)),
    Column("delivered_at", BigInteger),
    UniqueConstraint("case_id", "kind", "channel", "target", name="delivery_once"),
    CheckConstraint("state IN ('waiting', 'leased', 'delivered', 'dead', 'dropped')", name="delivery_state"),
    CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="delivery_lease"),
    CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivery_delivered"),
    CheckConstraint("state <> 'dead' OR last_error IS NOT NULL", name="delivery_dead"),
    Index(
        "delivery_due",
        "next_at",
        sqlite_where=text("state IN ('waiting', 'leased')"),
        postgresql_where=text("state IN ('waiting', 'leased')"),
    ),
    Index(
        "delivery_dead_letters",
        "case_id",
        sqlite_where=text("state = 'dead'"),
        postgresql_where=text("state = 'dead'"),
    ),
)
"""Notices about cases: what waits to be told to whom. ``target`` never holds a secret, only its variable's name."""

store_probe: Final = Table("store_probe", metadata, Column("filler", LargeBinary, primary_key=True))
"""Always empty: the writer tries here whether it can write again."""

console_user: Final = Table(
    "console_user",
    metadata,
    Column("folded", String(200), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("org", String(63), nullable=False),
    Column("groups", Text, nullable=False),
    Column("email", String(254)),
    Column("language", String(2), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Index("console_user_org", "org"),
)
"""People who decide cases. ``folded`` is the name without case and compatibility forms; ``groups`` a JSON array."""

console_session: Final = Table(
    "console_session",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("folded", String(200), ForeignKey("console_user.folded"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Index("console_session_folded", "folded"),
)
"""Who is signed in to the console. The token itself is only in the cookie."""

policy_input: Final = Table(
    "policy_input",
    metadata,
    Column("decision_id", String(36), primary_key=True),
    Column("org", String(63), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("stage", String(8), nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("label", String(8), nullable=False),
    Column("allow", Float, nullable=False),
    Column("refuse", Float, nullable=False),
    Column("escalate", Float, nullable=False),
    Column("domain", String(64)),
    Column("domains", Text, nullable=False),
    Column("readings", Text, nullable=False),
    Column("unjudged", Text, nullable=False),
    Column("kinds", Text, nullable=False),
    Column("tools", Text, nullable=False),
    Column("calls", Text, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("risk", Float),
    Column("judged_bytes", BigInteger, nullable=False),
    Column("limit_refuse", Float),
    Column("limit_escalate", Float),
    Column("effect", String(8), nullable=False),
    Column("decided_domain", String(64)),
    Column("route", String(64)),
    Column("reasons", Text, nullable=False),
    Column("policy", String(64), nullable=False),
    Column("revision", String(80), nullable=False),
    Column("shadow_effect", String(8)),
    Column("shadow_reasons", Text),
    Column("shadow_revision", String(80)),
    Column("acted", String(8), nullable=False),
    CheckConstraint("acted IN ('current', 'shadow')", name="input_acted"),
    Index("policy_input_at", "org", "at"),
)
"""What decisions were made from, and what came of them: no text, erasable. Lists and mappings are JSON."""
