"""The straight line: judge, decide, record, enforce, forward; and the same again for what the reply proposes to do.

Only this file knows the order. Nothing is forwarded before its decision is durable in the audit log, and nothing
executable is released before its own is. What people must decide becomes a case: durable first, then its client waits,
and what they approve is used once, in a run that no connection can end.

    govern ─► a case speaks for it? ─no─► judge ─► decide ─► refuse
                   │                                  ├─► forward ─► reply ─► judge ─► decide ─► pass | refuse
                   │                                  └─► open a case ◄───────────────────┘
                   └─yes─► wait ─► use the approval (run) | answer | refuse | 409
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import orjson

from gateway.connection import BEAT_S, answered, held_open, on_cancel, streaming
from gateway.deciding import OBLIGATIONS, Decider, Matter
from gateway.enforcement import (
    JSON_TYPE,
    STREAM_TYPE,
    Answer,
    Heading,
    Manners,
    conflict,
    failure,
    failure_answer,
    human_answer,
    substitute,
    substitute_events,
    upstream_error,
)
from gateway.errors import (
    AuditUnavailable,
    CaseGone,
    GatewayError,
    RequestError,
    UpstreamError,
)
from gateway.escalation.case import Case
from gateway.escalation.cases import Cases
from gateway.holding import Room
from gateway.obliging import Obliged, oblige, read_obligations, restored_stream
from gateway.passage import Closings, Passage
from gateway.ports import Call, Judge, Rules, Trail
from gateway.runs import HeldBackError, LostError, Run, Runs
from gateway.telemetry import logger
from gateway.texts import Language
from gateway.told import Told, case_headers, tell_answer, tell_case
from gateway.upstream.base import Inbound, Outbound, Upstream
from gateway.wire.format import Reply, Request, reply_views
from gateway.wire.sse import write_comment

INSIST_S: Final = 1.0
"""Time between two tries to write what became of an approval."""


class Pipeline:
    """Governs calls. ``judge_timeout_s`` bounds each stage's verdict; ``room`` is where clients wait for people."""

    def __init__(
        self,
        judge: Judge,
        rules: Rules,
        trail: Trail,
        cases: Cases,
        upstream: Upstream,
        *,
        judge_timeout_s: float,
        room: Room | None = None,
    ) -> None:
        self._decider = Decider(judge, rules, trail, cases, timeout_s=judge_timeout_s)
        self._rules = rules
        self._cases = cases
        self._upstream = upstream
        self._room = room or Room()
        self._runs = Runs()
        self._closings = Closings(trail)

    async def govern(self, call: Call) -> Answer:
        """Return what the client gets for ``call``; every path leaves its entries in the log."""
        passage = self._enter(call)
        return await answered(passage, self._begin(passage))

    async def resume(self, call: Call, case: Case) -> Answer:
        """Return what becomes of ``case``, whose stored request is ``call``, as if its client had sent it again."""
        passage = self._enter(call)
        passage.binding = case.binding
        run = self._runs.find(case.binding)
        return await answered(passage, self._wait(passage, case if run is None else run.case))

    def dismiss(self) -> None:
        """Send away everybody who waits for people; nobody waits from now on."""
        self._room.close()

    async def drain(self) -> None:
        """Return when every run has ended or was broken off, and every entry that nobody waits for is written."""
        self.dismiss()
        await self._runs.drain()
        await self._closings.drain()

    # The line.

    def _enter(self, call: Call) -> Passage:
        patience = self._rules.patience(call.principal.organization)
        if call.request.stream:
            return Passage(call, self._closings, patience.stream_hold_s)
        return Passage(call, self._closings, patience.hold_s if call.wait_s is None else call.wait_s)

    async def _begin(self, passage: Passage) -> Answer:
        """Ask whether a case speaks for the request; else decide about it."""
        call, organization = passage.call, passage.call.principal.organization
        passage.binding = await self._cases.binding(
            call.principal, call.endpoint, call.request.forwarded, call.idempotency_key
        )
        run = self._runs.find(passage.binding)
        case = run.case if run is not None else await self._cases.find(organization, passage.binding)
        reached = case or await self._decide(passage)
        return await self._wait(passage, reached) if isinstance(reached, Case) else reached

    async def _decide(self, passage: Passage, predecessor: Case | None = None) -> Answer | Case:
        """Judge and decide the request: it is refused, forwarded, or a case."""
        request = passage.call.request
        matter = Matter("request", (request.conversation,), request.forwarded)
        settled = await self._decider.settle(passage, matter, predecessor)
        if isinstance(settled, Case):
            return settled
        if settled is not None:
            return self._tell(passage, settled)
        reached = await self._forward(passage)
        if isinstance(reached, Case) or isinstance(reached.body, bytes):
            return reached
        return await streaming(passage, reached, self._follow)

    async def _forward(self, passage: Passage, approved: Case | None = None) -> Answer | Case:
        """Call the upstream, once; return its answer, or the case that its reply became."""
        call, obliged = passage.call, Obliged(passage.call.request)
        if passage.obligations:
            obliged = await asyncio.to_thread(oblige, call.request, passage.obligations, call.format)
        request = obliged.request
        inbound = await self._upstream.send(_outbound(call, request))
        passes = 200 <= inbound.status < 300
        if passes and request.stream and inbound.event_stream:
            relay = self._relay(passage, inbound, obliged.originals, approved)
            await anext(relay)  # from here on, closing the relay closes the upstream
            return Answer(200, relay, (*passage.headers, *self._upstream.headers), STREAM_TYPE)
        try:
            body = obliged.restored(await inbound.read())
        finally:
            await inbound.close()
        if not passes:
            passage.close("upstream_error", inbound.status, body)
            return upstream_error(inbound.status, body, inbound.retry_after, passage.headers, call.format)
        if request.stream:
            raise UpstreamError("invalid", "the upstream answered a stream request without a stream")
        return await self._reply(passage, inbound.status, body, approved)

    async def _reply(self, passage: Passage, status: int, body: bytes, approved: Case | None) -> Answer | Case:
        """Pass a whole reply on as it is; what it proposes to do is decided about before."""
        reply = passage.call.format.parse_reply(body)
        if reply.acting:
            passage.heading = _heading(passage, reply, tuple(choice.index for choice in reply.choices))
            settled = await self._decider.settle(passage, _matter(passage, reply, body), approved)
            if isinstance(settled, Case):
                return settled
            if settled is not None:
                return self._tell(passage, settled, status)
        passage.close("forwarded", status, None if reply.acting else body)
        return Answer(200, body, (*passage.headers, *self._upstream.headers))

    async def _relay(
        self, passage: Passage, inbound: Inbound, originals: Mapping[str, str], approved: Case | None
    ) -> AsyncGenerator[bytes]:
        """Pass text on as it comes; from the first piece of an action on, hold everything until it is decided.

        Raises HeldBackError where people decide about what is held.
        """
        stream = passage.call.format.hold()
        passage.heading = replace(passage.heading, begun=stream)
        sent: list[bytes] = []
        outcome: str | None = passage.gone
        try:
            yield b""
            sent_at = time.monotonic()
            chunks = restored_stream(inbound.chunks(), originals) if originals else inbound.chunks()
            async for piece in chunks:
                passed = stream.feed(piece)
                sent.append(passed)
                if not passed and time.monotonic() - sent_at > BEAT_S:
                    passed = write_comment("held until it is judged")
                if passed:
                    sent_at = time.monotonic()
                    yield passed
                if stream.done:
                    break
            if passed := stream.finish():
                sent.append(passed)
                yield passed
            rest = [*stream.held, stream.end]
            settled = None
            if stream.acts:
                reply = stream.parsed()
                passage.heading = _heading(passage, reply, stream.open_choices)
                passage.passed = sum(map(len, sent))
                settled = await self._decider.settle(
                    passage, _matter(passage, reply, b"".join([*sent, *rest])), approved
                )
            if isinstance(settled, Case):
                outcome = None
                raise HeldBackError(settled, passage.heading, passage.passed)
            if settled is not None:
                rest = substitute_events(settled, self._manners(passage), passage.heading)
            yield b"".join(rest)
            outcome = "forwarded" if settled is None else settled.outcome
        except GatewayError as error:
            outcome = failure(error).code
            raise
        finally:
            if outcome is not None:
                text = None if stream.acts else orjson.dumps(stream.parsed())
                passage.close(outcome, inbound.status, text)
            await inbound.close()

    # What people decide.

    async def _wait(self, passage: Passage, case: Case) -> Answer:
        """Answer about ``case``: at once where nobody need be waited for, else on a connection that is kept alive."""
        passage.concern(case)
        call = passage.call
        if case.status not in ("pending", "consumed"):
            return await self._follow(passage, case)
        if not self._room.free(call.principal.key_id) or passage.left_s <= 0:
            return await self._send_away(passage, case)
        if not call.request.stream and (call.wait_s is None or not call.format.streams):
            # what never streams has no reply either that could tell of a refusal once its status is out
            return await self._follow(passage, case)
        task = asyncio.create_task(answered(passage, self._follow(passage, case)))
        if call.request.stream:
            return await held_open(passage, case, task)
        with on_cancel(task):
            await asyncio.wait({task}, timeout=BEAT_S)  # until the first sign of life, its status is open
        return await task if task.done() else await held_open(passage, case, task)

    async def _follow(self, passage: Passage, case: Case) -> Answer:
        """Return what becomes of ``case``, or of those that take its place, as soon as its client need not wait."""
        while True:
            passage.concern(case)
            run = self._runs.find(case.binding)
            if run is None and case.status == "approved":
                if case.revision != self._rules.revision(case.organization):
                    case = await self._cases.withdraw(case.id, "policy_changed") or await self._newest(case)
                    continue
                run = self._use(passage, case)
            if run is not None:
                try:
                    return await self._attach(passage, run)
                except HeldBackError as held:
                    case = passage.hold_back(held)
                except LostError:
                    passage.take_back()
                    case = await self._changed(passage, case, INSIST_S) or case
                    if passage.left_s <= 0:
                        return await self._send_away(passage, case)
            elif case.status in ("pending", "consumed"):
                newer = await self._changed(passage, case, passage.left_s)
                if newer is None or newer.status == case.status:
                    return await self._send_away(passage, case)
                case = newer
            elif case.successor is not None:
                case = await self._successor(case)
            elif case.reason == "policy_changed" and not passage.passed:
                reached = await self._decide(passage, case)
                if not isinstance(reached, Case):
                    return reached
                case = reached
            else:
                return await self._tell_end(passage, case)

    async def _changed(self, passage: Passage, case: Case, limit_s: float) -> Case | None:
        """Return the case once it has changed, or as it is after ``limit_s``; None when nobody may wait any more."""
        with self._room.seat(passage.call.principal.key_id):
            return await self._room.wait(self._cases.changed(case, limit_s))

    def _use(self, passage: Passage, case: Case) -> Run:
        """Use an approval, in a run of its own that writes the last entry of the call that began it."""
        own = passage.hand_over()
        return self._runs.start(case, lambda run: self._carry_out(run, own))

    async def _carry_out(self, run: Run, passage: Passage) -> None:
        """Consume the approval, do what it allows, keep the answer: each durable before the next.

        Whatever goes wrong in between ends the case, so that people see it and nothing is tried twice by itself.
        """
        case = run.case
        if await self._cases.consume(case.id, self._rules.revision(case.organization)) is None:
            raise LostError
        passage.headers = case_headers(case, "approved")
        try:
            reached = await (self._release(passage, case) if case.stage == "response" else self._send(passage, case))
            if isinstance(reached, Case):
                raise HeldBackError(reached, passage.heading)
            await _copy(reached, run)
        except asyncio.CancelledError:
            passage.close(passage.gone)
            raise
        except HeldBackError:  # the case ended in the transaction that opened the reply's
            passage.close("held")
            raise
        except Exception as error:
            reason, unknown = _ground(error)
            passage.close(failure(error).code)
            await self._insist(run, lambda: self._cases.fail(case.id, reason, unknown=unknown))
            raise
        await self._insist(run, lambda: self._cases.complete(case.id, run.stored()))

    async def _send(self, passage: Passage, case: Case) -> Answer | Case:
        """Forward what was approved; a request that the upstream does not take has its answer with that."""
        kept = await self._cases.payload(case, OBLIGATIONS)
        passage.obligations = () if kept is None else read_obligations(kept)
        try:
            return await self._forward(passage, case)
        except RequestError as error:
            passage.close(failure(error).code)
            return failure_answer(error, passage.headers, passage.call.format)

    async def _release(self, passage: Passage, case: Case) -> Answer:
        """Release the stored reply: the upstream is not called again."""
        body = await self._cases.payload(case, "reply")
        if body is None:
            raise CaseGone("the reply that was held is erased: send the request again")
        passage.close("released")
        headers = (*passage.headers, *self._upstream.headers)
        return Answer(200, body, headers, STREAM_TYPE if case.stream else JSON_TYPE)

    async def _insist(self, run: Run, step: Callable[[], Awaitable[Case]]) -> None:
        """Write what became of an approval; while the log cannot be written whoever waits is told so."""
        while True:
            try:
                await step()
            except AuditUnavailable as error:
                run.end(error)
                await asyncio.sleep(INSIST_S)
            else:
                return

    async def _attach(self, passage: Passage, run: Run) -> Answer:
        """Return the answer of a run, to one of all who wait for it."""
        answer = await run.answer(passage.passed)
        if isinstance(answer.body, bytes):
            passage.close("replayed", answer.status)
            return answer
        return await streaming(passage, answer, self._follow)

    async def _tell_end(self, passage: Passage, case: Case) -> Answer:
        """Answer with how a case ended."""
        match case.status:
            case "completed":
                stored = await self._cases.answer(case)
                if stored is None:
                    raise CaseGone("the answer is no longer kept: send the request again")
                passage.close("replayed", stored.status)
                headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers)
                return Answer(stored.status, stored.body[passage.passed :], headers, stored.media_type.encode())
            case "answered":
                text = await self._cases.payload(case, "answer")
                if text is None:
                    raise CaseGone("the answer is erased: send the request again")
                passage.close("answered")
                return human_answer(tell_answer(case, text.decode()), passage.heading)
            case "failed" | "outcome_unknown":
                passage.close(case.status)
                return conflict(tell_case(case, self._language(passage)), case, passage.call.format)
            case _:
                return self._tell(passage, tell_case(case, self._language(passage)))

    async def _send_away(self, passage: Passage, case: Case) -> Answer:
        """Tell a client that waited long enough, or may not wait, that people have not decided."""
        snapshot = orjson.loads(await self._cases.payload(case, "asked") or b"{}")
        told = tell_case(case, self._language(passage), snapshot.get("message"))
        if self._rules.patience(case.organization).after == "refusal":
            return self._tell(passage, told)
        passage.close(told.outcome)
        return conflict(told, case, passage.call.format)

    def _tell(self, passage: Passage, told: Told, status: int | None = None) -> Answer:
        passage.close(told.outcome, status)
        return substitute(told, self._manners(passage), passage.heading)

    async def _newest(self, case: Case) -> Case:
        return await self._cases.get(case.id) or case

    async def _successor(self, case: Case) -> Case:
        successor = await self._cases.get(case.successor or "")
        if successor is None:
            raise CaseGone("the case that took the place of this one is gone")
        return successor

    def _language(self, passage: Passage) -> Language:
        return self._manners(passage).language

    def _manners(self, passage: Passage) -> Manners:
        return self._rules.manners(passage.call.principal.organization)


def _outbound(call: Call, request: Request) -> Outbound:
    return Outbound(
        body=request.forwarded,
        stream=request.stream,
        model=request.model,
        conversation=request.conversation,
        choices=request.choices,
        max_tokens=request.max_tokens,
        include_usage=request.include_usage,
        path=call.format.path,
        version=call.version,
    )


def _matter(passage: Passage, reply: Reply, data: bytes) -> Matter:
    return Matter("response", reply_views(passage.call.request.conversation, reply), data, reply)


def _heading(passage: Passage, reply: Reply, choices: tuple[int, ...]) -> Heading:
    request = passage.call.request
    model = reply.model or request.model
    return replace(passage.heading, model=model, choices=choices, id=reply.id, created=reply.created)


async def _copy(answer: Answer, run: Run) -> None:
    """Give a run its answer, piece by piece as it comes."""
    run.begin(answer)
    if isinstance(answer.body, bytes):
        run.add(answer.body)
        return
    async with aclosing(answer.body) as pieces:
        async for piece in pieces:
            run.add(piece)


def _ground(error: Exception) -> tuple[str, bool]:
    """Return why the use of an approval failed, in a closed word, and whether something may have been executed."""
    match error:
        case UpstreamError():
            return f"upstream_{error.reason}", error.sent
        case CaseGone():
            return "erased", False
        case GatewayError():
            return failure(error).code, True
        case _:
            logger.error("the use of an approval failed", exc_info=error)
            return "crash", True
