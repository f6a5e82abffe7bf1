"""kill -9 at random moments around open, decide and consume: what was acknowledged stays, nothing is done twice."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway.errors import GatewayError
from tests.acceptance.people import Office
from tests.acceptance.process import moments, so8t
from tests.doubles import UpstreamDouble

pytestmark = pytest.mark.timeout(7200)

BAKERY = "Please suggest a good name for a small bakery, number"
WORKERS = 4
UPSTREAM_S = 0.2
"""How long the upstream takes: long enough that many kills fall between the call and its answer."""


@dataclass
class Ledger:
    """What was acknowledged: cases by what was asked, approvals, answers."""

    cases: dict[str, set[str]] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)

    def saw(self, text: str, response: requests.Response) -> str:
        """Note the case that a response names; return its id."""
        case_id = response.headers["x-so8t-case-id"]
        self.cases.setdefault(text, set()).add(case_id)
        return case_id


@dataclass
class Crowd:
    """Clients that ask, have it approved, and ask again, until the gateway is gone."""

    office: Office
    ledger: Ledger
    numbers: Iterator[int] = field(default_factory=itertools.count)
    failures: list[AssertionError] = field(default_factory=list)

    def post(self, text: str) -> requests.Response:
        """Ask."""
        return requests.post(
            f"{self.office.gateway.url}/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": text}]},
            headers={"authorization": f"Bearer {self.office.key('acme')}"},
            timeout=300,
        )

    def once(self, text: str) -> None:
        """Ask, have it approved, ask again."""
        ledger = self.ledger
        ledger.unanswered.add(text)
        first = self.post(text)
        assert first.status_code == 409, first.text
        case_id = ledger.saw(text, first)
        self.office.rule(case_id, "approve")
        ledger.approved.add(case_id)
        again = self.post(text)
        assert again.status_code == 200, again.text
        assert ledger.saw(text, again) == case_id
        ledger.answered.add(case_id)
        ledger.unanswered.discard(text)

    def work(self, stop: threading.Event) -> None:
        """Do so again and again."""
        while not stop.is_set():
            try:
                self.once(self.text())
            except (requests.RequestException, GatewayError):
                time.sleep(0.01)
            except AssertionError as error:
                self.failures.append(error)

    def text(self) -> str:
        """Return what nobody asked yet."""
        text = f"{BAKERY} {next(self.numbers)}."
        self.office.upstream.scripts[text] = {"text": "Dawn", "delay": UPSTREAM_S}
        return text

    def run_until_killed(self, moment: float) -> None:
        """Let all work and kill the gateway after ``moment`` seconds."""
        stop = threading.Event()
        workers = [threading.Thread(target=self.work, args=(stop,), daemon=True) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        time.sleep(moment)
        stop.set()
        self.office.gateway.kill()
        for worker in workers:
            worker.join(320)
            assert not worker.is_alive()


@pytest.mark.parametrize("rounds", [15, pytest.param(100, marks=pytest.mark.soak)])
def test_kill_9_at_any_moment_loses_no_case_and_repeats_no_call(tmp_path: Path, rounds: int) -> None:
    with UpstreamDouble() as upstream:
        office = Office(tmp_path, upstream)
        office.admit("acme", hold="0s")
        ledger = Ledger()
        crowd = Crowd(office, ledger)
        office.gateway.start()
        try:
            began = time.monotonic()
            crowd.once(crowd.text())
            took = time.monotonic() - began
            for moment in moments(rounds, 2 * took):
                crowd.run_until_killed(moment)
                office.gateway.start()
                calls = office.all_calls()
                _come_back(crowd)
                assert crowd.failures == []
                repeated = office.all_calls() - calls
                assert all(count == 1 and calls[text] == 0 for text, count in repeated.items())
            unknown = _check(office, ledger)
            _decide_again(crowd, unknown[:3])
        finally:
            if office.gateway.child.poll() is None:
                office.gateway.kill()
        print(
            f"{rounds} kills: {sum(map(len, ledger.cases.values()))} cases, {len(ledger.approved)} approvals and "
            f"{len(ledger.answered)} answers acknowledged, {len(unknown)} outcomes unknown"
        )
        so8t("audit", "verify", "--data-dir", str(office.data.path))
        _check(office, ledger)


def _come_back(crowd: Crowd) -> None:
    """Send again what got no answer: what is not known stays with people, what was approved and not used is used."""
    ledger = crowd.ledger
    for text in sorted(ledger.unanswered):
        response = crowd.post(text)
        assert response.status_code in (200, 409), response.text
        case_id = ledger.saw(text, response)
        if response.status_code == 200:
            ledger.answered.add(case_id)
        ledger.unanswered.discard(text)


def _check(office: Office, ledger: Ledger) -> list[str]:
    """Compare what was acknowledged with the log and the upstream; return the cases whose outcome is unknown."""
    opened: dict[str, dict[str, Any]] = {}
    steps: dict[str, list[str]] = {}
    for entry in office.entries("acme"):
        if entry["ev"] == "case_opened":
            opened[entry["case"]] = entry
        if entry["ev"] == "case":
            steps.setdefault(entry["case"], []).append(entry["status"])
    known = set().union(*ledger.cases.values())
    assert known <= opened.keys()
    assert ledger.approved <= {case_id for case_id, taken in steps.items() if "approved" in taken}
    assert ledger.answered <= {case_id for case_id, taken in steps.items() if taken[-1] == "completed"}
    calls = office.all_calls()
    for text, case_ids in ledger.cases.items():
        linked = set(case_ids)
        for case_id in case_ids:
            before = opened[case_id].get("predecessor")
            linked |= {before} if before else set()
        approvals = sum(steps.get(case_id, []).count("approved") for case_id in linked)
        assert calls[text] <= approvals, (text, calls[text], approvals)
    unknown = sorted(case_id for case_id, taken in steps.items() if taken[-1] == "outcome_unknown")
    successors = {entry["predecessor"]: case_id for case_id, entry in opened.items() if entry.get("predecessor")}
    assert set(unknown) <= successors.keys()
    return unknown


def _decide_again(crowd: Crowd, unknown: list[str]) -> None:
    """Approve what took the place of cases whose outcome is unknown: each is called once more, and only then."""
    office, ledger = crowd.office, crowd.ledger
    for case_id in unknown:
        successor = office.case(case_id)["successor"]
        assert office.case(successor)["status"] == "pending"
        (text,) = [text for text, case_ids in ledger.cases.items() if {case_id, successor} & case_ids]
        before = office.calls(text)
        office.rule(successor, "approve")
        response = crowd.post(text)
        assert response.status_code == 200, response.text
        assert ledger.saw(text, response) == successor
        assert office.calls(text) == before + 1
