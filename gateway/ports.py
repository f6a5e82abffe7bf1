"""What the pipeline is given: a call to govern, and the judge, the rules and the trail that it governs with."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from uuid6 import uuid7

from gateway.decision import Decision
from gateway.enforcement import Manners
from gateway.parts import Conversation
from gateway.principal import Principal
from gateway.verdict import Stage, Verdict
from gateway.wire.chat import ChatRequest


class Judge(Protocol):
    """The part of the safety engine that judges."""

    async def judge(
        self, organization: str, conversation: Conversation, *, stage: Stage, rationale: bool = False
    ) -> Verdict:
        """Return the verdict or raise JudgeUnavailable."""
        ...


class Trail(Protocol):
    """The part of the audit trail that records."""

    def record(
        self,
        organization: str,
        event: str,
        fields: Mapping[str, Any],
        payloads: Mapping[str, bytes],
        *,
        subject: str | None,
    ) -> Awaitable[object]:
        """Return once the entry is durable, or raise AuditUnavailable."""
        ...


class Rules(Protocol):
    """The policies in force, as the pipeline uses them."""

    def manners(self, organization: str) -> Manners:
        """Return how the organisation wants its stops told."""
        ...

    def decide(
        self, principal: Principal, stage: Stage, conversation: Conversation, verdict: Verdict, decision_id: str
    ) -> Decision:
        """Return the decision of the organisation's policy."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request of one principal. ``subject`` is the person whom the data is about, when the caller names one."""

    principal: Principal
    request: ChatRequest
    route: str
    subject: str | None = None
    id: str = field(default_factory=lambda: str(uuid7()))
