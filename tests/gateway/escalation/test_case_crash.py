"""kill -9 at random moments: no case that was acknowledged is lost, each approval is used once, nothing is retried."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from audit.entry import read_entry
from gateway.escalation.cases import Cases
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.gateway.store.entries import verify


def run(path: Path, lines: int, seconds: float) -> list[list[str]]:
    """Let the load tell so many lines and run a little on, kill it, and return what it told."""
    command = [sys.executable, "-m", "tests.gateway.escalation.load", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = list(islice(process.stdout, lines))
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines(keepends=True)
    return [line.decode().split() for line in told if line.endswith(b"\n")]


async def crash(path: Path, rounds: int) -> None:
    random.seed(path.name)
    told: list[list[str]] = []
    for _ in range(rounds):
        told += run(path, random.randint(20, 120), random.uniform(0, 0.05))
    words: dict[str, Counter[str]] = {}
    for word, *ids in told:
        words.setdefault(word, Counter()).update(ids[:1])
    assert words["ready"].total() == 0
    assert set(words["consumed"].values()) == {1}
    directory = DataDirectory(path)
    with Store(directory) as store:
        cases = Cases(store.reader, store.writer, store.trail)
        successors = await cases.recover()
        known = {case.id: case for case in cases.listing(limit=1_000_000)}
        assert words["opened"].keys() <= known.keys()
        assert all(known[case_id].status == "completed" for case_id in words["done"])
        assert all(known[case_id].status in ("completed", "outcome_unknown") for case_id in words["consumed"])
        unknown = [case for case in known.values() if case.status == "outcome_unknown"]
        assert len(unknown) >= len(successors)
        for case in unknown:
            assert case.successor is not None
            assert known[case.successor].predecessor == case.id
            assert known[case.successor].status == "pending"
        assert not [case for case in known.values() if case.status == "consumed"]
        with store.reader.connect() as conn:
            entries = [read_entry(row[0]) for row in conn.exec_driver_sql("SELECT leaf FROM audit_leaf")]
    arrows = Counter((each["case"], each["status"]) for each in entries if each["ev"] == "case")
    assert set(arrows.values()) == {1}
    assert {case for case, status in arrows if status == "consumed"} >= words["consumed"].keys()
    assert Counter(each["case"] for each in entries if each["ev"] == "case_opened") == Counter(known.keys())
    for case in known.values():
        assert case.status == "pending" or (case.id, case.status) in arrows
    assert verify(directory, "acme").holds


async def test_killed_at_random_moments(tmp_path: Path) -> None:
    await crash(tmp_path / "data", 5)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_killed_a_hundred_times(tmp_path: Path) -> None:
    await crash(tmp_path / "soak", 100)
