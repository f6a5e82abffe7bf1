"""An approval is for one request, one use, one policy and its time: over HTTP, with 64 clients at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
import requests

from tests.acceptance.people import WEATHER, Office, policy, running, until
from tests.doubles import UpstreamDouble

pytestmark = pytest.mark.timeout(1800)

BAKERY = "Please suggest a good name for a small bakery in"
CLIENTS = 64
TTL_S = 15.0
"""How long an approval holds here: longer than a request takes on a busy machine."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as server:
        yield server


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamDouble) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"), upstream, approval_ttl_s=TTL_S)
    for organization in ("plain", "streamed", "resumed", "exact", "changes", "unused"):
        made.admit(organization, hold="0s", stream_hold="0s")
    with running(made):
        yield made


def _open(office: Office, organization: str, text: str, **fields: Any) -> str:
    with pytest.raises(openai.ConflictError):
        office.calling(office.client(organization, max_retries=0), text, **fields).result()
    return office.opened(organization)


async def _at_once(
    office: Office, organization: str, count: int, call: Callable[[openai.AsyncOpenAI], Awaitable[str]]
) -> set[str]:
    """Return the different results of ``count`` calls that are under way at once, each on a connection of its own."""
    key, url = office.key(organization), f"{office.gateway.url}/v1"
    async with openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0, timeout=600) as client:
        return set(await asyncio.gather(*(call(client) for _ in range(count))))


@pytest.mark.parametrize("stream", [False, True])
def test_64_resumes_at_once_are_one_call_and_one_answer(office: Office, stream: bool) -> None:
    organization = "streamed" if stream else "plain"
    text = f"{BAKERY} {organization}."
    office.upstream.scripts[text] = {"text": f"one {organization} answer", "delay": 0.5}
    case_id = _open(office, organization, text, stream=stream)
    office.rule(case_id, "approve")

    async def call(client: openai.AsyncOpenAI) -> str:
        create: Any = client.chat.completions.create
        reply = await create(model="m", messages=[{"role": "user", "content": text}], stream=stream)
        if stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in reply])
        return str(reply.choices[0].message.content)

    found = asyncio.run(_at_once(office, organization, CLIENTS, call))
    assert {each.replace(" ", "") for each in found} == {f"one{organization}answer"}
    assert len(found) == 1
    assert office.calls(text) == 1
    until(lambda: office.case(case_id)["status"] == "completed")
    assert asyncio.run(_at_once(office, organization, 100, call)) == found
    assert office.calls(text) == 1
    assert office.statuses(organization) == ["approved", "consumed", "completed"]


def test_64_resumes_by_the_cases_address_are_one_call(office: Office) -> None:
    text = f"{BAKERY} Resumed."
    office.upstream.scripts[text] = {"text": "resumed", "delay": 0.5}
    case_id = _open(office, "resumed", text)
    office.rule(case_id, "approve")

    async def call(client: openai.AsyncOpenAI) -> str:
        return str(await client.post(f"/cases/{case_id}/resume", cast_to=object, body={}))

    assert len(asyncio.run(_at_once(office, "resumed", CLIENTS, call))) == 1
    assert office.calls(text) == 1


MUTATIONS: dict[str, Any] = {
    "model": {"model": "other"},
    "text": {"messages": [{"role": "user", "content": f"{BAKERY} Exact. "}]},
    "message": {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": f"{BAKERY} Exact."}]},
    "name": {"messages": [{"role": "user", "content": f"{BAKERY} Exact.", "name": "ann"}]},
    "stream": {"stream": True},
    "temperature": {"temperature": 0.1},
    "limit": {"max_tokens": 5},
    "seed": {"seed": 1},
    "choices": {"n": 2},
    "tool": {"tools": [WEATHER]},
    "user": {"user": "ann"},
    "metadata": {"metadata": {"a": "b"}},
}


def test_an_approval_is_for_this_request_of_this_key_alone(office: Office) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"{BAKERY} Exact."}]}
    url = f"{office.gateway.url}/v1/chat/completions"
    own = {"authorization": f"Bearer {office.key('exact')}"}
    eves = {"authorization": f"Bearer {office.key('exact', 'eve')}"}
    before = len(office.upstream.requests)
    with requests.Session() as session:
        assert session.post(url, json=body, headers=own, timeout=120).status_code == 409
        case_id = office.opened("exact")
        office.rule(case_id, "approve")
        seen = {case_id}
        for name, mutation in MUTATIONS.items():
            answer = session.post(url, json=body | mutation, headers=own, timeout=120)
            assert answer.status_code == 409, name
            seen.add(answer.headers["x-so8t-case-id"])
        marked = own | {"idempotency-key": "1"}
        assert session.post(url, json=body, headers=marked, timeout=120).status_code == 409
        assert (
            session.post(url.replace("chat/completions", f"cases/{case_id}/resume"), headers=eves, timeout=60).ok
            is False
        )
    assert len(seen) == len(MUTATIONS) + 1
    assert len(office.upstream.requests) == before


def test_a_changed_policy_takes_the_approval_back(office: Office) -> None:
    text = f"{BAKERY} Changes."
    case_id = _open(office, "changes", text)
    office.rule(case_id, "approve")
    before = _loaded(office)
    rule = "  - {id: eve-asks, when: 'principal.owner == \"eve\"', effect: refuse}"
    (office.policies / "changes.yaml").write_text(policy("changes", hold="0s", rules=rule))
    until(lambda: _loaded(office) > before)
    successor = _open(office, "changes", text)
    assert office.calls(text) == 0
    first, second = office.case(case_id), office.case(successor)
    assert (first["status"], first["reason"], first["successor"]) == ("withdrawn", "policy_changed", successor)
    assert (second["status"], second["predecessor"]) == ("pending", case_id)
    office.rule(successor, "approve")
    office.calling(office.client("changes", max_retries=0), text).result()
    assert office.calls(text) == 1


def _loaded(office: Office) -> int:
    return sum(entry["ev"] == "policy_loaded" for entry in office.entries("changes"))


def test_an_approval_that_nobody_used_in_time_is_gone(office: Office) -> None:
    text = f"{BAKERY} Unused."
    case_id = _open(office, "unused", text)
    office.rule(case_id, "approve")
    until(lambda: office.case(case_id)["status"] == "expired")
    client = office.client("unused", max_retries=0)
    for _ in range(100):
        reply = office.calling(client, text).result().parse()
        assert reply.choices[0].finish_reason == "content_filter"
    assert office.calls(text) == 0
    assert office.statuses("unused") == ["approved", "expired"]
