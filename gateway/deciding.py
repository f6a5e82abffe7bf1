"""Deciding: one matter is judged, decided by the worst, and recorded; or it becomes a case."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from uuid6 import uuid7

from gateway.decision import Decision, Obligation, Reason, RestrictTools
from gateway.enforcement import stops
from gateway.entries import Origin, decision_fields, undecided_fields, worst_verdict
from gateway.errors import CaseStateError, JudgeUnavailable, TooManyCases
from gateway.escalation.asked import asked
from gateway.escalation.case import Case, Opening
from gateway.escalation.cases import Cases
from gateway.obliging import forbidden_calls, write_obligations
from gateway.parts import Conversation
from gateway.passage import Passage
from gateway.ports import Decided, Judge, Rules, Trail
from gateway.telemetry import logger
from gateway.told import Told, tell_stop
from gateway.verdict import Label, Stage, Verdict
from gateway.wire.format import Reply

OBLIGATIONS: Final = "obligations"
"""The payload of a case that keeps what is asked of its request once it is approved."""


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be decided: the views that are judged, and the exact bytes that would pass."""

    stage: Stage
    views: Sequence[Conversation]
    data: bytes
    reply: Reply | None = None


class Decider:
    """Decides matters. ``timeout_s`` bounds the verdict on one."""

    def __init__(self, judge: Judge, rules: Rules, trail: Trail, cases: Cases, *, timeout_s: float) -> None:
        self._judge = judge
        self._rules = rules
        self._trail = trail
        self._cases = cases
        self._timeout_s = timeout_s

    async def settle(self, passage: Passage, matter: Matter, predecessor: Case | None = None) -> Case | Told | None:
        """Judge ``matter``, decide by the worst, and return once that is durable.

        None: it may pass. A case: people decide. Else what the client is told.
        """
        call = passage.call
        organization, decision_id = call.principal.organization, str(uuid7())
        origin = Origin(call.id, call.route, call.principal.key_id, matter.stage, decision_id)
        payloads: dict[str, bytes] = {matter.stage: matter.data}
        try:
            verdicts = await self._verdicts(organization, matter)
        except JudgeUnavailable as cause:
            fields = undecided_fields(origin, cause.reason)
            await self._trail.record(organization, "decision", fields, payloads, subject=call.subject)
            passage.leave_undecided(decision_id)
            raise
        decided = [
            self._rules.decide(call.principal, matter.stage, view, verdict, decision_id)
            for view, verdict in zip(matter.views, verdicts, strict=True)
        ]
        inputs = max(decided, key=lambda each: each.decision.effect.severity).inputs
        decision = worst([each.decision for each in decided])
        if matter.stage == "response":
            decision = restricted(decision, passage.obligations, matter.views)
        fields = decision_fields(origin, decision, verdicts)
        if stops(decision) and decision.effect is Label.ESCALATE:
            return await self._open(passage, matter, Decided(decision, inputs), verdicts, fields, predecessor)
        await self._trail.record(organization, "decision", fields, payloads, subject=call.subject, inputs=inputs)
        passage.decide(decision)
        return (
            tell_stop(decision, matter.stage, self._rules.manners(organization).language) if stops(decision) else None
        )

    async def _verdicts(self, organization: str, matter: Matter) -> list[Verdict]:
        """Return a verdict for each view; whatever the judge dies of is JudgeUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                judging = [self._judge.judge(organization, view, stage=matter.stage) for view in matter.views]
                return [await judging[0]] if len(judging) == 1 else await asyncio.gather(*judging)
        except TimeoutError:
            raise JudgeUnavailable("timeout", f"no verdict within {self._timeout_s:g} s") from None
        except JudgeUnavailable:
            raise
        except Exception as error:
            logger.exception("the judge failed")
            raise JudgeUnavailable("crashed", "the judge failed") from error

    async def _open(
        self,
        passage: Passage,
        matter: Matter,
        decided: Decided,
        verdicts: Sequence[Verdict],
        fields: dict[str, Any],
        predecessor: Case | None,
    ) -> Case | Told:
        """Open a case, or return what the client is told where its key has too many."""
        call, principal, decision = passage.call, passage.call.principal, decided.decision
        payloads = {"request": call.request.forwarded, "asked": _asked(matter, decision, verdicts)}
        if decision.obligations:
            payloads[OBLIGATIONS] = write_obligations(decision.obligations)
        digest = None
        if matter.stage == "response":
            payloads["reply"] = matter.data
            digest = await self._cases.binding(principal, call.route, matter.data, None)
        opening = Opening(
            principal=principal,
            stage=matter.stage,
            endpoint=call.route,
            stream=call.request.stream,
            request_id=call.id,
            subject=call.subject,
            decision=decision,
            fields=fields,
            inputs=decided.inputs,
            payloads=payloads,
            binding=passage.binding,
            reply_digest=digest,
            handling=self._rules.handling(principal.organization, decision),
            predecessor=None if predecessor is None else predecessor.id,
        )
        try:
            case = await self._cases.open(opening)
        except TooManyCases:
            passage.decide(decision)
            return tell_stop(decision, matter.stage, self._rules.manners(principal.organization).language)
        passage.decide(decision)
        passage.concern(case)
        if case.reply_digest != digest and passage.passed:
            raise CaseStateError(case.status, "another reply to the same request waits for people: send it again")
        return case


def restricted(decision: Decision, obligations: Sequence[Obligation], views: Sequence[Conversation]) -> Decision:
    """Return the decision about a reply under the ``obligations`` of its request: no tool is called that may not be."""
    calls = [call.name for view in views for call in view.messages[-1].tool_calls]
    if not forbidden_calls(obligations, calls):
        return decision
    reason = Reason(f"obligation:{RestrictTools.name}", Label.REFUSE)
    return replace(
        decision,
        effect=Label.REFUSE,
        domain=None,
        route=None,
        message=None,
        reasons=(*decision.reasons, reason),
        obligations=(),
    )


def worst(decisions: Sequence[Decision]) -> Decision:
    """Return the most severe of the decisions about the choices of one reply, with the reasons of all."""
    first = max(decisions, key=lambda each: each.effect.severity)
    if len(decisions) == 1:
        return first
    reasons = tuple(dict.fromkeys(reason for each in decisions for reason in each.reasons))
    errors = tuple(dict.fromkeys(error for each in decisions for error in each.errors))
    return replace(first, reasons=reasons, errors=errors)


def _asked(matter: Matter, decision: Decision, verdicts: Sequence[Verdict]) -> bytes:
    unjudged = [each for view in matter.views for each in view.unjudged]
    actions = [
        {
            "choice": choice.index,
            "text": choice.message.text,
            "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in choice.message.tool_calls],
        }
        for choice in (matter.reply.acting if matter.reply is not None else ())
    ]
    return asked(decision, worst_verdict(verdicts), unjudged, actions)
