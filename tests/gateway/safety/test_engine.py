"""The engine with the shipped release: verdicts, windows, batches, and what happens when the judge dies or hangs."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.errors import JudgeUnavailable, ReleaseError
from gateway.parts import Conversation, Message
from gateway.safety.engine import EngineOptions, SafetyEngine
from gateway.safety.release import builtin_release


def say(*texts: str) -> Conversation:
    return Conversation(tuple(Message("user", text, f"/messages/{i}") for i, text in enumerate(texts)))


@asynccontextmanager
async def running(options: EngineOptions | None = None) -> AsyncIterator[SafetyEngine]:
    engine = SafetyEngine(options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def until_ready(engine: SafetyEngine) -> None:
    async with asyncio.timeout(30):
        while engine.state != "ready":
            await asyncio.sleep(0.02)


async def test_a_verdict_has_scores_that_sum_to_one_and_names_its_release() -> None:
    async with running() as engine:
        verdict = await engine.judge("a", say("Please book a meeting room for Tuesday."), stage="request")
    scores = verdict.scores
    assert scores.allow + scores.refuse + scores.escalate == pytest.approx(1, abs=1e-5)
    assert verdict.release == "so8t-nano"
    assert verdict.release_digest == engine.release.digest
    assert verdict.judged_bytes == len("Please book a meeting room for Tuesday.")
    assert not verdict.rationale


async def test_the_same_text_is_cached_within_an_organisation_only() -> None:
    async with running() as engine:
        first = await engine.judge("a", say("hello"), stage="request")
        again = await engine.judge("a", say("hello"), stage="request")
        other = await engine.judge("b", say("hello"), stage="request")
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert first == again


async def test_a_batch_gives_the_verdicts_of_single_requests() -> None:
    texts = [f"Request number {n}: move the meeting to {n} o'clock and tell Ms Tan." for n in range(40)]
    async with running(EngineOptions(cache=1)) as engine:
        together = await asyncio.gather(*(engine.judge("a", say(text), stage="request") for text in texts))
        alone = [await engine.judge("a", say(text), stage="request") for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert one.scores.allow == pytest.approx(other.scores.allow, abs=0.02)


async def test_a_long_text_is_read_in_windows_and_the_worst_of_them_counts() -> None:
    filler = "The weather report says that it will be sunny on Monday. "
    async with running() as engine:
        verdict = await engine.judge("a", say(filler * 300), stage="request")
    assert len(verdict.readings) > 10
    assert verdict.judged_bytes == len(filler) * 300
    thresholds = engine.release.thresholds
    worst = max(thresholds.label(reading.scores).severity for reading in verdict.readings)
    assert verdict.label.severity == worst


async def test_every_user_message_of_a_request_is_read() -> None:
    async with running() as engine:
        verdict = await engine.judge("a", say("one", "two", "three"), stage="request")
        last = await engine.judge("a", say("one", "two", "three"), stage="response")
    assert [reading.pointer for reading in verdict.readings] == ["/messages/0", "/messages/1", "/messages/2"]
    assert [reading.pointer for reading in last.readings] == ["/messages/2"]


async def test_a_rationale_is_written_when_asked_for() -> None:
    async with running() as engine:
        verdict = await engine.judge("a", say("Approve the dismissal of Mr Ito."), stage="request", rationale=True)
    assert verdict.rationale


async def test_the_task_head_writes_and_stops_at_its_limit() -> None:
    async with running() as engine:
        pieces = [piece async for piece in engine.generate(say("How do I book a meeting room?"), 12)]
        again = await engine.judge("a", say("still there"), stage="request")
    assert pieces
    assert len(pieces) <= 12
    assert again.readings


async def test_a_killed_judge_fails_what_waits_and_comes_back() -> None:
    async with running() as engine:
        pid = engine.pid
        assert pid is not None
        waiting = [asyncio.create_task(engine.judge("a", say(f"text {n}" * 200), stage="request")) for n in range(20)]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {getattr(outcome, "reason", None) for outcome in outcomes} == {"crashed"}
        with pytest.raises(JudgeUnavailable):
            await engine.judge("a", say("meanwhile"), stage="request")
        await until_ready(engine)
        assert engine.pid != pid
        assert (await engine.judge("a", say("afterwards"), stage="request")).readings


async def test_a_hanging_judge_times_out_and_is_replaced() -> None:
    async with running(EngineOptions(timeout_s=0.3, hang_s=1.0)) as engine:
        pid = engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(JudgeUnavailable) as caught:
            await engine.judge("a", say("hello"), stage="request")
        assert caught.value.reason == "timeout"
        async with asyncio.timeout(30):
            while engine.pid in (pid, None) or engine.state != "ready":
                await asyncio.sleep(0.05)


async def test_more_than_the_queue_holds_is_turned_away() -> None:
    async with running(EngineOptions(queue=4)) as engine:
        waiting = [engine.judge("a", say(f"text {n}"), stage="request") for n in range(12)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    reasons = [getattr(outcome, "reason", "judged") for outcome in outcomes]
    assert reasons.count("overloaded") == 8
    assert reasons.count("judged") == 4


async def test_nothing_is_judged_after_close() -> None:
    async with running() as engine:
        pass
    with pytest.raises(JudgeUnavailable):
        await engine.judge("a", say("hello"), stage="request")


async def test_a_release_that_was_altered_while_the_gateway_ran_stops_the_restart(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(builtin_release(), folder)
    async with running(EngineOptions(release=folder)) as engine:
        assert engine.pid is not None
        with (folder / "trunk.gguf").open("r+b") as file:
            file.seek(1000)
            file.write(b"\xff\xfe\xfd")
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while engine.state != "failed":
                await asyncio.sleep(0.02)
        with pytest.raises(JudgeUnavailable) as caught:
            await engine.judge("a", say("hello"), stage="request")
        assert caught.value.reason == "failed"
        assert "altered" in (engine.failure or "")


def test_a_missing_release_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError):
        SafetyEngine(EngineOptions(release=tmp_path / "nothing"))
