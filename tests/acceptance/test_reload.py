"""Policies change a hundred times under load, every other time wrongly: no request fails, and none is mixed up."""

import asyncio
import math
import signal
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Final

import pytest

from gateway.cli.control import ask
from gateway.policy import load_bundle
from gateway.store.directory import DataDirectory
from tests.acceptance.process import GatewayProcess
from tests.bench.gateway import free_port, process, request_bytes

pytestmark = pytest.mark.timeout(900)

RELOADS: Final = 100
RATE: Final = 200
CONNECTIONS: Final = 16
PAUSE_S: Final = 0.1
WITHIN_S: Final = 60.0
"""How long a reload may take on a busy machine."""
POLICY = """\
version: 1
organization: default
rules:
  - {{id: first-{number}, when: 'true', effect: allow, obligations: [{{tag: {{word: first-{number}}}}}]}}
  - {{id: second-{number}, when: 'stage == "request"', effect: {second}}}
"""
WRONG = (
    ("organization:", "wrong_{number}: 1\norganization:"),
    ("'true'", "'wrong_{number}'"),
    ("effect: allow,", "effect: escalate, domain: wrong_{number},"),
    ("organization:", "default_route: wrong_{number}\norganization:"),
)


def good(number: int) -> str:
    """Return a policy that refuses and passes by turns; each of its rules tells its number."""
    passes = f"allow, obligations: [{{tag: {{word: second-{number}}}}}]"
    return POLICY.format(number=number, second="refuse" if number % 4 else passes)


def bad(number: int) -> str:
    """Return a policy that is wrong in one place, and refuses should the rest of it count."""
    right, wrong = WRONG[number // 2 % len(WRONG)]
    return good(number).replace(right, wrong.format(number=number), 1)


@dataclass(frozen=True)
class Answered:
    """What the client was told."""

    status: int
    decision: str
    decision_id: str


class Load:
    """RATE requests a second, each at its moment or as soon as its connection is free, until ``stop``."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._begun = time.monotonic()
        self._end = math.inf
        self.answers: list[Answered] = []

    async def run(self) -> None:
        """Return once every request has its answer."""
        await asyncio.gather(*(self._connection(number) for number in range(CONNECTIONS)))

    def stop(self) -> float:
        """Send what is due by now and then no more; return for how many seconds there was load."""
        self._end = time.monotonic()
        return self._end - self._begun

    async def _connection(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for turn in count():
            moment = self._begun + (number + turn * CONNECTIONS) / RATE
            await asyncio.sleep(max(0, moment - time.monotonic()))
            if moment >= self._end:
                break
            writer.write(request_bytes(""))
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if line)
            await reader.readexactly(int(headers["content-length"]))
            self.answers.append(
                Answered(int(status.split()[1]), headers["x-so8t-decision"], headers["x-so8t-decision-id"])
            )
        writer.close()


def write(file: Path, number: int) -> None:
    """Write a policy: a wrong one where the old one stands, a good one aside first."""
    if number % 2:
        file.write_text(bad(number))
        return
    fresh = file.with_suffix(".fresh")
    fresh.write_text(good(number))
    fresh.replace(file)


async def reload(gateway: GatewayProcess, file: Path, number: int, *, sign: str) -> None:
    """Change the policy and let the gateway notice it by one of three ways; return once its log holds ``sign``."""
    write(file, number)
    way = number // 2 % 3
    if way == 0:
        gateway.child.send_signal(signal.SIGHUP)
    elif way == 1:
        command = {"action": "reload", "actor": "root"}
        answer = await asyncio.to_thread(ask, DataDirectory(gateway.data_dir), "/control/policy", command)
        assert answer["ok"] is (number % 2 == 0)
    async with asyncio.timeout(WITHIN_S):
        while sign not in gateway.log.read_text():
            await asyncio.sleep(0.01)


async def test_a_hundred_reloads_under_load(tmp_path: Path) -> None:
    policies, file, port = tmp_path / "policies", tmp_path / "policies" / "default.yaml", free_port()
    policies.mkdir()
    revisions = {}
    for number in range(0, RELOADS + 1, 2):
        file.write_text(good(number))
        revisions[number] = load_bundle(policies).policy("default").revision
    file.write_text(good(0))
    upstream = f"http://127.0.0.1:{port}/v1"
    flags = ("--upstream-url", upstream, "--policies", str(policies))
    with (
        process("-m", "tests.bench.gateway", "constant", str(port), ready=f"{upstream}/models"),
        GatewayProcess(tmp_path / "var", *flags, environment={"SO8T_POLICY_POLL_S": "0.05"}) as gateway,
    ):
        load = Load(gateway.port)
        running = asyncio.create_task(load.run())
        for number in range(1, RELOADS + 1):
            await asyncio.sleep(PAUSE_S)
            assert not running.done(), running.exception()
            await reload(gateway, file, number, sign=revisions.get(number, f"wrong_{number}"))
        seconds = load.stop()
        await running
    check(load, gateway, revisions, seconds)


def check(load: Load, gateway: GatewayProcess, revisions: dict[int, str], seconds: float) -> None:
    """No request failed, and each was decided by exactly one of the good policies, whose entry came before."""
    assert len(load.answers) >= seconds * RATE - CONNECTIONS
    assert Counter(answer.status for answer in load.answers) == {200: len(load.answers)}
    entries = gateway.entries()
    loaded = [entry for entry in entries if entry["ev"] == "policy_loaded"]
    known = [revision.removeprefix("sha256:") for revision in revisions.values()]
    assert [(entry["previous"], entry["revision"]) for entry in loaded] == list(pairwise(known))
    assert {entry["auth"] for entry in loaded} == {"file", "signal", "cli"}
    assert all(("actor" in entry) is (entry["auth"] == "cli") for entry in loaded)
    expected = {
        revision: ("REFUSE" if number % 4 else "ALLOW", {f"rule:first-{number}", f"rule:second-{number}"})
        for (number, _), revision in zip(revisions.items(), known, strict=True)
    }
    announced, decided = {known[0]}, {}
    for entry in entries:
        if entry["ev"] == "policy_loaded":
            announced.add(entry["revision"])
        if entry["ev"] == "decision":
            assert entry["revision"] in announced
            assert (entry["effect"], set(entry["reasons"]) - {"model"}) == expected[entry["revision"]]
            decided[entry["decision"]] = entry
    assert {answer.decision_id: answer.decision for answer in load.answers} == {
        decision: entry["effect"].lower() for decision, entry in decided.items()
    }
    assert len({entry["revision"] for entry in decided.values()}) > RELOADS // 4
    assert "Traceback" not in gateway.log.read_text()
