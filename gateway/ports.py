"""What the pipeline is given: a call to govern, and the judge, the rules and the trail that it governs with."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from uuid6 import uuid7

from gateway.decision import Decision
from gateway.enforcement import Manners
from gateway.escalation.case import Handling
from gateway.holding import Patience
from gateway.parts import Conversation
from gateway.principal import Principal
from gateway.verdict import Stage, Verdict
from gateway.wire.format import Request, WireFormat
from gateway.wire.routes import CHAT


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and the row of what it was made from: without any text, enough to decide it again."""

    decision: Decision
    inputs: Mapping[str, Any] | None = None


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
        inputs: Mapping[str, Any] | None = None,
    ) -> Awaitable[object]:
        """Return once the entry is durable, with the row of what was decided from; or raise AuditUnavailable."""
        ...


class Rules(Protocol):
    """The policies in force, as the pipeline uses them."""

    def manners(self, organization: str) -> Manners:
        """Return how the organisation wants its stops told."""
        ...

    def patience(self, organization: str) -> Patience:
        """Return how long the organisation lets a client wait for people."""
        ...

    def revision(self, organization: str) -> str:
        """Return the revision of the policy in force, as decisions carry it."""
        ...

    def handling(self, organization: str, decision: Decision) -> Handling:
        """Return how the case that ``decision`` opens is to be handled."""
        ...

    def decide(
        self, principal: Principal, stage: Stage, conversation: Conversation, verdict: Verdict, decision_id: str
    ) -> Decided:
        """Return the decision of the organisation's policy."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request of one principal. ``subject`` is the person whom the data is about, when the caller names one.

    ``wait_s``: how long the caller would wait on an open connection for people to decide (``Prefer: wait``).
    ``version`` is the version of the API that it speaks, where it is not the usual one.
    """

    principal: Principal
    request: Request
    route: str
    subject: str | None = None
    idempotency_key: str | None = None
    wait_s: float | None = None
    format: WireFormat = CHAT
    version: str | None = None
    id: str = field(default_factory=lambda: str(uuid7()))

    @property
    def endpoint(self) -> str:
        """What of the address an approval is bound to: the route, and the version that it is called in."""
        return self.route if self.version is None else f"{self.route}@{self.version}"
