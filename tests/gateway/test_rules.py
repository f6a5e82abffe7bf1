"""Policies on the line: what they oblige to is done, and what was decided from is kept, beside a shadow too."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from gateway.enforcement import Answer
from gateway.escalation.case import Reviewer
from gateway.escalation.cases import Cases
from gateway.pipeline import Pipeline
from gateway.policy import PolicyStore
from gateway.policy.shadow import FOLDER, ShadowStore, write_stage
from gateway.ports import Call
from gateway.principal import Principal
from gateway.rules import PolicyRules
from gateway.store.directory import DataDirectory
from gateway.store.schema import policy_input
from gateway.store.store import Store
from gateway.upstream.http import HttpUpstream
from gateway.verdict import Thresholds
from gateway.wire.chat import parse_request
from tests.doubles import ScriptedSafetyModel, UpstreamDouble

PRINCIPAL = Principal("acme", "key-1", "ann")
MAIL = "sato@clinic.example"
POLICY = """\
version: 1
organization: acme
escalation: {hold: 10s}
rules:
  - id: no-addresses
    when: stage == "request"
    effect: allow
    obligations:
      - redact: {kinds: [email], restore: true}
      - cap_tokens: {max: 50}
      - tag: {word: pilot}
"""
ASKING = (
    POLICY
    + """\
  - id: ask-people
    when: stage == "request"
    effect: escalate
    domain: finance
"""
)


class Line:
    """A pipeline with real policies, a real store and a real upstream over HTTP."""

    def __init__(self, store: Store, upstream: HttpUpstream, double: UpstreamDouble, folder: Path) -> None:
        self.store, self.upstream, self.double, self.folder = store, upstream, double, folder
        self.cases = Cases(store.reader, store.writer, store.trail)

    def begin(self, text: str, shadow: str | None = None, percent: float = 0) -> Pipeline:
        (self.folder / "acme.yaml").write_text(text)
        if shadow is not None:
            (self.folder / FOLDER).mkdir()
            (self.folder / FOLDER / "acme.yaml").write_text(shadow)
            write_stage(self.folder / FOLDER, percent)
        rules = PolicyRules(PolicyStore(self.folder), Thresholds(0.6, 0.4), shadow=ShadowStore(self.folder))
        self.pipeline = Pipeline(
            ScriptedSafetyModel(), rules, self.store.trail, self.cases, self.upstream, judge_timeout_s=5
        )
        return self.pipeline

    def inputs(self) -> list[dict[str, Any]]:
        with self.store.reader.connect() as conn:
            return [dict(row._mapping) for row in conn.execute(select(policy_input))]


@pytest.fixture
def double() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as server:
        yield server


@pytest.fixture
async def line(double: UpstreamDouble, tmp_path: Path) -> AsyncIterator[Line]:
    folder = tmp_path / "policies"
    folder.mkdir()
    store = await asyncio.to_thread(Store, DataDirectory(tmp_path / "var"))
    upstream = HttpUpstream(double.url, None, connect_timeout_s=5, read_timeout_s=5)
    made = Line(store, upstream, double, folder)
    yield made
    await made.pipeline.drain()
    await upstream.close()
    await asyncio.to_thread(store.close)


def call(text: str) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return Call(PRINCIPAL, parse_request(orjson.dumps(body)), "/v1/chat/completions")


def forwarded(double: UpstreamDouble) -> dict[str, Any]:
    [sent] = double.requests
    return sent


def allowed(answer: Answer) -> str:
    assert answer.status == 200
    headers = dict(answer.headers)
    return headers[b"x-so8t-decision"].decode()


async def test_what_passes_is_obliged_and_recorded(line: Line) -> None:
    assert allowed(await line.begin(POLICY).govern(call(f"Write to {MAIL}, please."))) == "allow"
    sent = forwarded(line.double)
    assert sent["messages"] == [{"role": "user", "content": "Write to [EMAIL_1], please."}]
    assert sent["max_completion_tokens"] == 50
    [row] = line.inputs()
    assert (row["effect"], row["stage"], row["shadow_effect"]) == ("ALLOW", "request", None)
    assert MAIL not in repr(row)


async def test_an_approval_does_not_drop_an_obligation(line: Line) -> None:
    pipeline = line.begin(ASKING)
    waiting = asyncio.create_task(pipeline.govern(call(f"Write to {MAIL}, please.")))
    while not (open_cases := line.cases.listing("acme", "pending")):
        await asyncio.sleep(0.01)
    await line.cases.rule(open_cases[0].id, Reviewer("bob", "acme"), "approve")
    assert allowed(await waiting) == "approved"
    assert forwarded(line.double)["messages"][0]["content"] == "Write to [EMAIL_1], please."


@pytest.mark.parametrize(("percent", "status"), [(0, "allow"), (100, "refuse")])
async def test_a_shadow_is_recorded_and_acts_for_its_share_of_keys(line: Line, percent: float, status: str) -> None:
    strict = POLICY.replace("rules:", "rules:\n  - {id: halt, when: 'true', effect: refuse}")
    assert allowed(await line.begin(POLICY, strict, percent).govern(call("Good morning."))) == status
    [row] = line.inputs()
    assert (row["effect"], row["shadow_effect"]) == ("ALLOW", "REFUSE")
    assert row["acted"] == ("shadow" if percent else "current")
