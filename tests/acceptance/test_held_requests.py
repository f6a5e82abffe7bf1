"""Many wait for people on one gateway: each gets its own answer, once, and they cost little."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.people import Office, running, until
from tests.bench.holding import memory, pending
from tests.doubles import UpstreamDouble

pytestmark = pytest.mark.timeout(3600)

BAKERY = "Please suggest a good name for a small bakery, number"
MOST_MB = 0.2
"""More memory for each who waits: 200 MB for a thousand."""


@pytest.mark.parametrize("held", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_each_of_many_who_wait_gets_its_own_answer(tmp_path: Path, held: int) -> None:
    with UpstreamDouble() as upstream:
        office = Office(tmp_path, upstream)
        office.admit("acme")
        with running(office):
            other = office.client("acme", "bob")
            office.calling(other, "Good morning! What is the capital of France?").result()
            before = memory(office.gateway.child.pid)
            after = asyncio.run(_hold(office, held))
        print(f"{held} held: {before:.0f} MB before, {after:.0f} MB while they waited")
        assert after - before < MOST_MB * held
        calls = office.all_calls()
        assert sum(calls.values()) == held + 2
        assert max(count for text, count in calls.items() if text.startswith(BAKERY)) == 1
        assert office.statuses("acme").count("completed") == held


async def _hold(office: Office, held: int) -> float:
    """Let ``held`` clients wait, approve all, and compare what each gets; return the memory while they waited."""
    key, url = office.key("acme"), f"{office.gateway.url}/v1"
    async with openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=100, timeout=3000) as client:
        create: Any = client.chat.completions.create
        texts = [f"{BAKERY} {number}." for number in range(held)]
        calls = [asyncio.create_task(create(model="m", messages=[{"role": "user", "content": text}])) for text in texts]
        await asyncio.to_thread(
            until, lambda: pending(office.data.database) == held or any(call.done() for call in calls), 1200
        )
        assert not [call for call in calls if call.done()]
        after = memory(office.gateway.child.pid)
        beside = await asyncio.to_thread(office.calling(office.client("acme", "bob"), "Good evening!").result)
        assert beside.parse().choices[0].message.content == "echo: Good evening!"
        for case in office.cases("acme"):
            await asyncio.to_thread(office.rule, case["id"], "approve")
        replies = await asyncio.gather(*calls)
        assert [reply.choices[0].message.content for reply in replies] == [f"echo: {text}" for text in texts]
        return after
