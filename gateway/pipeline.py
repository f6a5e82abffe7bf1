"""The straight line: judge, decide, record, enforce, forward; and the same again for what the reply proposes to do.

Only this file knows the order. Nothing is forwarded before its decision is durable in the audit log, and nothing
executable is released before its own is.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson
from uuid6 import uuid7

from gateway.decision import Decision
from gateway.enforcement import (
    STREAM_TYPE,
    Answer,
    Header,
    Heading,
    decision_headers,
    failure,
    failure_answer,
    stop,
    stop_events,
    stops,
    upstream_error,
)
from gateway.entries import Origin, decision_fields, enforcement_fields, undecided_fields
from gateway.errors import AuditUnavailable, GatewayError, JudgeUnavailable, UpstreamError
from gateway.parts import Conversation
from gateway.ports import Call, Judge, Rules, Trail
from gateway.telemetry import logger
from gateway.upstream.base import Inbound, Outbound, Upstream
from gateway.verdict import Label, Stage, Verdict
from gateway.wire.chat import ChatRequest
from gateway.wire.reply import ChatReply, parse_reply
from gateway.wire.sse import DONE, write_comment, write_event
from gateway.wire.stream import HeldStream

HEARTBEAT_S: Final = 10.0
CLOSE_S: Final = 0.025
"""How long the last entry of a call waits for company. Nobody waits for it: the decision is durable already."""


class Pipeline:
    """Governs calls. ``judge_timeout_s`` bounds each stage's verdict."""

    def __init__(self, judge: Judge, rules: Rules, trail: Trail, upstream: Upstream, *, judge_timeout_s: float) -> None:
        self._judge = judge
        self._rules = rules
        self._trail = trail
        self._upstream = upstream
        self._judge_timeout_s = judge_timeout_s
        self._waiting: list[tuple[Call, dict[str, Any], dict[str, bytes]]] = []
        self._background: set[asyncio.Future[None]] = set()

    async def govern(self, call: Call) -> Answer:
        """Return what the client gets for ``call``; every path leaves its entries in the log."""
        request = call.request
        decision: Decision | None = None
        try:
            decision = await self._settle(call, "request", (request.conversation,), request.forwarded)
            if stops(decision):
                heading = Heading(request.model, request.stream, tuple(range(request.choices)))
                return self._stopped(call, decision, "request", heading, None)
            return await self._forward(call, decision)
        except _UndecidedError as error:
            self._close(call, error.decision_id, "judge_unavailable")
            return failure_answer(error.cause, _undecided_headers(error.decision_id))
        except AuditUnavailable as error:
            return failure_answer(error)
        except GatewayError as error:
            if decision is None:
                raise
            self._close(call, decision.id, failure(error).code)
            return failure_answer(error, decision_headers(decision))
        except asyncio.CancelledError:
            if decision is not None:
                self._close(call, decision.id, "client_disconnected")
            raise

    async def drain(self) -> None:
        """Return when every entry that nobody waits for is written."""
        self._write_waiting()
        while self._background:
            await asyncio.wait(self._background)

    async def _settle(self, call: Call, stage: Stage, views: Sequence[Conversation], payload: bytes) -> Decision:
        """Judge ``views``, decide by the worst, and return once that is durable."""
        decision_id = str(uuid7())
        origin = Origin(call.id, call.route, call.principal.key_id, stage, decision_id)
        try:
            verdicts = await self._verdicts(call.principal.organization, stage, views)
        except JudgeUnavailable as cause:
            await self._record(call, "decision", undecided_fields(origin, cause.reason), {stage: payload})
            raise _UndecidedError(decision_id, cause) from cause
        decisions = [
            self._rules.decide(call.principal, stage, view, verdict, decision_id)
            for view, verdict in zip(views, verdicts, strict=True)
        ]
        decision = worst(decisions)
        await self._record(call, "decision", decision_fields(origin, decision, verdicts), {stage: payload})
        return decision

    async def _verdicts(self, organization: str, stage: Stage, views: Sequence[Conversation]) -> list[Verdict]:
        """Return a verdict for each view; whatever the judge dies of is JudgeUnavailable."""
        try:
            async with asyncio.timeout(self._judge_timeout_s):
                judging = [self._judge.judge(organization, view, stage=stage) for view in views]
                return [await judging[0]] if len(judging) == 1 else await asyncio.gather(*judging)
        except TimeoutError:
            raise JudgeUnavailable("timeout", f"no verdict within {self._judge_timeout_s:g} s") from None
        except JudgeUnavailable:
            raise
        except Exception as error:
            logger.exception("the judge failed")
            raise JudgeUnavailable("crashed", "the judge failed") from error

    async def _forward(self, call: Call, decision: Decision) -> Answer:
        request = call.request
        inbound = await self._upstream.send(_outbound(request))
        passes = 200 <= inbound.status < 300
        if passes and request.stream and inbound.event_stream:
            relay = self._relay(call, decision, inbound)
            await anext(relay)  # from here on, closing the relay closes the upstream
            return Answer(200, relay, (*decision_headers(decision), *self._upstream.headers), STREAM_TYPE)
        try:
            body = await inbound.read()
        finally:
            await inbound.close()
        if not passes:
            self._close(call, decision.id, "upstream_error", inbound.status, body)
            return upstream_error(inbound.status, body, inbound.retry_after, decision_headers(decision))
        if request.stream:
            raise UpstreamError("invalid", "the upstream answered a stream request without a stream")
        return await self._reply(call, decision, inbound.status, body)

    async def _reply(self, call: Call, decision: Decision, status: int, body: bytes) -> Answer:
        reply = parse_reply(body)
        if reply.acting:
            decision = await self._settle(call, "response", _views(call, reply), body)
            if stops(decision):
                return self._stopped(call, decision, "response", _heading(call, reply, _indices(reply)), status)
        self._close(call, decision.id, "forwarded", status, None if reply.acting else body)
        return Answer(200, body, (*decision_headers(decision), *self._upstream.headers))

    async def _relay(self, call: Call, decision: Decision, inbound: Inbound) -> AsyncGenerator[bytes]:
        """Pass text on as it comes; from the first piece of an action on, hold everything until it is decided."""
        stream = HeldStream()
        decision_id, outcome = decision.id, "client_disconnected"
        try:
            yield b""
            sent_at = time.monotonic()
            async for piece in inbound.chunks():
                passed = stream.feed(piece)
                if not passed and time.monotonic() - sent_at > HEARTBEAT_S:
                    passed = write_comment("held until it is judged")
                if passed:
                    sent_at = time.monotonic()
                    yield passed
                if stream.done:
                    break
            if passed := stream.finish():
                yield passed
            decided = decision
            if stream.reply.acts:
                reply = stream.reply.reply()
                decided = await self._settle(call, "response", _views(call, reply), orjson.dumps(reply))
                decision_id = decided.id
            yield b"".join(self._ending(call, decided, stream))
            outcome = "forwarded" if decided is decision else _outcome(decided)
        except _UndecidedError as error:
            decision_id, outcome = error.decision_id, "judge_unavailable"
            yield write_event(failure(error.cause).object())
        except GatewayError as error:
            outcome = failure(error).code
            yield write_event(failure(error).object())
        finally:
            text = None if stream.reply.acts else orjson.dumps(stream.reply.reply())
            self._close(call, decision_id, outcome, inbound.status, text)
            await inbound.close()

    def _ending(self, call: Call, decision: Decision, stream: HeldStream) -> list[bytes]:
        """Return what was held, or what stands in for it."""
        if not stream.reply.acts or not stops(decision):
            return [*stream.held, DONE]
        heading = _heading(call, stream.reply.reply(), stream.reply.open_choices)
        return stop_events(decision, "response", self._rules.manners(call.principal.organization), heading)

    def _stopped(self, call: Call, decision: Decision, stage: Stage, heading: Heading, status: int | None) -> Answer:
        """Answer for the upstream. A later issue opens a case here when the effect is ESCALATE."""
        self._close(call, decision.id, _outcome(decision), status)
        return stop(decision, stage, self._rules.manners(call.principal.organization), heading)

    async def _record(self, call: Call, event: str, fields: Mapping[str, Any], payloads: Mapping[str, bytes]) -> None:
        await self._trail.record(call.principal.organization, event, fields, payloads, subject=call.subject)

    def _close(
        self, call: Call, decision_id: str, outcome: str, status: int | None = None, reply: bytes | None = None
    ) -> None:
        """Write the last entry of a call. Its decision is durable already, so nobody waits for this one."""
        fields = enforcement_fields(call.id, decision_id, outcome, status)
        payloads = {} if reply is None else {"reply": reply}
        if not self._waiting:
            asyncio.get_running_loop().call_later(CLOSE_S, self._write_waiting)
        self._waiting.append((call, fields, payloads))

    def _write_waiting(self) -> None:
        """Hand over what waits at once, so that it shares a commit and does not stand in the way of decisions."""
        waiting, self._waiting = self._waiting, []
        for call, fields, payloads in waiting:
            task = asyncio.ensure_future(self._record(call, "enforcement", fields, payloads))
            self._background.add(task)
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Future[None]) -> None:
        self._background.discard(task)
        with suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                logger.error("an enforcement entry was not written", exc_info=error)


class _UndecidedError(Exception):
    """No verdict: recorded as ``decision_id``."""

    def __init__(self, decision_id: str, cause: JudgeUnavailable) -> None:
        super().__init__(str(cause))
        self.decision_id = decision_id
        self.cause = cause


def worst(decisions: Sequence[Decision]) -> Decision:
    """Return the most severe of the decisions about the choices of one reply, with the reasons of all."""
    first = max(decisions, key=lambda each: each.effect.severity)
    if len(decisions) == 1:
        return first
    reasons = tuple(dict.fromkeys(reason for each in decisions for reason in each.reasons))
    errors = tuple(dict.fromkeys(error for each in decisions for error in each.errors))
    return replace(first, reasons=reasons, errors=errors)


def _outbound(request: ChatRequest) -> Outbound:
    return Outbound(
        body=request.forwarded,
        stream=request.stream,
        model=request.model,
        conversation=request.conversation,
        choices=request.choices,
        max_tokens=request.max_tokens,
        include_usage=request.include_usage,
    )


def _views(call: Call, reply: ChatReply) -> list[Conversation]:
    """Return one conversation for each choice that acts: the request, then that choice as the last message."""
    asked = call.request.conversation
    return [Conversation((*asked.messages, choice.message), asked.tools, choice.unjudged) for choice in reply.acting]


def _indices(reply: ChatReply) -> tuple[int, ...]:
    return tuple(choice.index for choice in reply.choices)


def _heading(call: Call, reply: ChatReply, choices: tuple[int, ...]) -> Heading:
    request = call.request
    return Heading(reply.model or request.model, request.stream, choices, id=reply.id, created=reply.created)


def _outcome(decision: Decision) -> str:
    """Return what was done, in a word of a closed set."""
    if not stops(decision):
        return "forwarded"
    return "refused" if decision.effect is Label.REFUSE else "escalated"


def _undecided_headers(decision_id: str) -> tuple[Header, ...]:
    return ((b"x-so8t-decision", b"unavailable"), (b"x-so8t-decision-id", decision_id.encode()))
