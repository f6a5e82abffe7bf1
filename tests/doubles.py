"""Real things that stand in for the world: an OpenAI-compatible server on a free port, and a scripted safety model."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from gateway.decision import Decision, Reason
from gateway.enforcement import Manners, Shape
from gateway.errors import JudgeUnavailable
from gateway.escalation.case import Handling
from gateway.holding import Patience
from gateway.http.protocol import protocol
from gateway.parts import Conversation, Message
from gateway.ports import Decided
from gateway.principal import Principal
from gateway.texts import Language
from gateway.verdict import Label, Reading, Scores, Stage, Thresholds, Verdict
from tests.upstream_double import UpstreamDouble, script

__all__ = [
    "Keyring",
    "LabelRules",
    "MemoryTrail",
    "ScriptedSafetyModel",
    "Served",
    "UpstreamDouble",
    "overloaded",
    "script",
]

THRESHOLDS = Thresholds(refuse=0.5, escalate=0.5)
DIGEST = "0" * 64


@dataclass
class ScriptedRelease:
    """What a release tells of itself."""

    id: str = "scripted"
    digest: str = DIGEST
    thresholds: Thresholds = THRESHOLDS


@dataclass
class ScriptedSafetyModel:
    """The engine's interface. A text with REFUSE or ESCALATE in it gets that label; ``failure`` is raised if set."""

    release: ScriptedRelease = field(default_factory=ScriptedRelease)
    state: str = "ready"
    failure: Exception | None = None
    fail_at: Stage | None = None
    delay_s: float = 0.0
    reply: tuple[str, ...] = ("Hello", " from", " here")
    judged: list[tuple[str, Stage, Conversation]] = field(default_factory=list)
    cancelled: int = 0

    async def start(self) -> None:
        """Be ready."""
        self.state = "ready"

    async def close(self) -> None:
        """Stop."""
        self.state = "closed"

    async def judge(
        self, organization: str, conversation: Conversation, *, stage: Stage, rationale: bool = False
    ) -> Verdict:
        """Return the verdict that the texts ask for."""
        self.judged.append((organization, stage, conversation))
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None and self.fail_at in (None, stage):
            raise self.failure
        messages = conversation.messages[-1:] if stage == "response" else conversation.messages
        text = "\n".join(_written(message) for message in messages)
        label = Label.REFUSE if "REFUSE" in text else Label.ESCALATE if "ESCALATE" in text else Label.ALLOW
        return verdict(label, conversation)

    async def generate(self, conversation: Conversation, max_tokens: int) -> AsyncIterator[str]:
        """Write the reply."""
        if self.failure is not None and self.fail_at is None:
            raise self.failure
        for piece in self.reply[:max_tokens]:
            await asyncio.sleep(self.delay_s)
            yield piece


def _written(message: Message) -> str:
    return "\n".join([message.text, *(f"{call.name} {call.arguments}" for call in message.tool_calls)])


def verdict(label: Label, conversation: Conversation) -> Verdict:
    """Return a sure verdict of ``label``."""
    scores = {
        Label.ALLOW: Scores(0.96, 0.02, 0.02),
        Label.REFUSE: Scores(0.02, 0.96, 0.02),
        Label.ESCALATE: Scores(0.02, 0.02, 0.96),
    }[label]
    domain = {Label.ALLOW: None, Label.REFUSE: "weapons", Label.ESCALATE: "medical"}[label]
    domains = {domain: 0.9} if domain else {}
    pointer = conversation.messages[-1].pointer
    return Verdict(
        label=label,
        scores=scores,
        domain=domain,
        domains=domains,
        pointer=pointer,
        release="scripted",
        release_digest=DIGEST,
        template=1,
        judged_bytes=sum(len(_written(message).encode()) for message in conversation.messages),
        readings=(Reading(pointer, scores, domains),),
        unjudged=conversation.unjudged,
    )


def overloaded() -> JudgeUnavailable:
    """Return the error of an engine whose queue is full."""
    return JudgeUnavailable("overloaded", "the queue is full")


@dataclass
class LabelRules:
    """Policies that do what the verdict's label says."""

    shape: Shape = "content_filter"
    language: Language = "en"
    enforced: bool = True
    hold: Patience = field(default_factory=lambda: Patience(hold_s=0.05, stream_hold_s=0.05))
    terms: Handling = field(default_factory=lambda: Handling("review"))
    revised: str = "1" * 64

    def patience(self, organization: str) -> Patience:
        """Return how long a client is held."""
        return self.hold

    def revision(self, organization: str) -> str:
        """Return the revision in force."""
        return self.revised

    def handling(self, organization: str, decision: Decision) -> Handling:
        """Return how a case is handled."""
        return self.terms

    def manners(self, organization: str) -> Manners:
        """Return how stops are told."""
        return Manners(self.language, self.shape)

    def decide(
        self, principal: Principal, stage: Stage, conversation: Conversation, verdict: Verdict, decision_id: str
    ) -> Decided:
        """Return the label as the effect; what is unjudged escalates."""
        effect = Label.ESCALATE if verdict.unjudged and verdict.label is Label.ALLOW else verdict.label
        reasons = (Reason("unjudged" if verdict.unjudged else "model", effect),)
        organization = principal.organization
        return Decided(
            Decision(
                decision_id, effect, verdict.domain, None, reasons, organization, self.revised, enforced=self.enforced
            )
        )


@dataclass
class MemoryTrail:
    """An audit trail that keeps its entries here. ``failure`` is raised instead if set."""

    failure: Exception | None = None
    fail_from: int = 0
    entries: list[tuple[str, str, dict[str, Any], dict[str, bytes]]] = field(default_factory=list)

    async def record(
        self,
        organization: str,
        event: str,
        fields: Mapping[str, Any],
        payloads: Mapping[str, bytes],
        *,
        subject: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the entry."""
        await asyncio.sleep(0)
        if self.failure is not None and len(self.entries) >= self.fail_from:
            raise self.failure
        self.entries.append((organization, event, dict(fields), dict(payloads)))

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of the entries of one event."""
        return [fields for _, kind, fields, _ in self.entries if kind == event]


@dataclass
class Keyring:
    """Keys in a dictionary."""

    keys: dict[str, Principal] = field(default_factory=dict)

    async def find(self, secret: str) -> Principal | None:
        """Return whose key it is."""
        return self.keys.get(secret)

    def empty(self) -> bool:
        """Tell whether there is no key."""
        return not self.keys


class Served:
    """An ASGI application under a real uvicorn on a free loopback port, in a thread of its own."""

    def __init__(self, app: ASGIApp, *, header_timeout_s: float = 10.0) -> None:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, http=protocol(header_timeout_s), lifespan="auto"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"
