"""Any order of steps, in any state: a model says what each must do, and the database refuses everything else."""

import asyncio
import secrets
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy.exc import IntegrityError

from audit.log import read_head, read_leaves
from audit.merkle import CompactRange, hash_leaf
from gateway.errors import CaseStateError, NotReviewerError
from gateway.escalation.case import TRANSITIONS, Case, Handling, Kind, Status
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.gateway.escalation.desk import ANSWER, OTHER, REVIEWER, REVISION, Desk, opening
from tests.gateway.store.entries import verify

RUNS = 1000
R = TypeVar("R")
STATUSES: tuple[Status, ...] = get_args(Status)


class World:
    """One store and one event loop for all runs; each run has a binding of its own."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = self.loop.run_until_complete(self._open(path))
        self.desk = Desk(self.store, options={"open_per_key": 1_000_000})

    async def _open(self, path: Path) -> Store:
        store = Store(DataDirectory(path), publish_interval_s=30)
        await store.writer.submit_alone(lambda conn: conn.execute("PRAGMA synchronous = OFF").fetchall())
        return store

    def close(self) -> None:
        if self.store.writer.state != "closed":
            self.store.close()
        self.loop.close()


class Machine(RuleBasedStateMachine):
    """Steps on the cases of one binding, beside a model of each case's status."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.desk = self.world.desk
        self.cases = self.desk.cases
        self.binding = "h1:" + secrets.token_hex(16)
        self.model: dict[str, Status] = {}
        self.newest: str | None = None
        self.approvals = 1
        self.given: set[str] = set()

    def do(self, step: Coroutine[Any, Any, R]) -> R:
        return self.world.loop.run_until_complete(step)

    @property
    def now(self) -> Status | None:
        return None if self.newest is None else self.model[self.newest]

    def became(self, case: Case | None, status: Status) -> None:
        assert case is not None
        assert case.status == status
        assert status in TRANSITIONS[self.model[case.id]]
        self.model[case.id] = status

    def stands(self, step: Coroutine[Any, Any, object], error: type[Exception]) -> None:
        with pytest.raises(error):
            self.do(step)

    @initialize(approvals=st.integers(1, 2))
    def start(self, approvals: int) -> None:
        self.approvals = approvals
        self.open()

    @rule()
    def open(self) -> None:
        case = self.do(self.cases.open(opening(self.binding, handling=Handling("desk", approvals=self.approvals))))
        if self.newest is not None and TRANSITIONS[self.model[self.newest]]:
            assert case.id == self.newest
        else:
            assert case.id not in self.model
            self.model[case.id], self.newest, self.given = "pending", case.id, set()

    @rule(kind=st.sampled_from(["approve", "approve", "approve", "deny", "answer"]), other=st.booleans())
    def decide(self, kind: Kind, other: bool) -> None:
        assert self.newest is not None
        by = OTHER if other else REVIEWER
        step = self.cases.rule(self.newest, by, kind, text="text")
        if self.now != "pending":
            self.stands(step, CaseStateError)
        elif by.name in self.given:
            self.stands(step, NotReviewerError)
        else:
            case = self.do(step)
            self.given.add(by.name)
            resolved: dict[Kind, Status] = {"approve": "approved", "deny": "denied", "answer": "answered"}
            if kind == "approve" and len(self.given) < self.approvals:
                assert case.status == "pending"
            else:
                self.became(case, resolved[kind])

    @rule(current=st.sampled_from([True, True, True, False]), twice=st.booleans())
    def consume(self, current: bool, twice: bool) -> None:
        assert self.newest is not None
        revision = REVISION if current else "sha256:" + "2" * 64
        ready = self.now == "approved" and current
        used = [self.do(self.cases.consume(self.newest, revision)) for _ in range(1 + twice)]
        assert used[1:] == [None] * twice
        if ready:
            self.became(used[0], "consumed")
        else:
            assert used[0] is None

    @rule(how=st.sampled_from(["complete", "fail", "unknown"]))
    def finish(self, how: str) -> None:
        assert self.newest is not None
        step: Coroutine[Any, Any, Case]
        if how == "complete":
            step = self.cases.complete(self.newest, ANSWER)
        else:
            step = self.cases.fail(self.newest, "timeout", unknown=how == "unknown")
        if self.now != "consumed":
            self.stands(step, CaseStateError)
            return
        case = self.do(step)
        self.became(case, {"complete": "completed", "fail": "failed", "unknown": "outcome_unknown"}[how])  # type: ignore[arg-type]
        self.follow(case)

    @rule()
    def crash(self) -> None:
        before = self.now
        self.do(self.cases.recover())
        if before == "consumed":
            assert self.newest is not None
            case = self.do(self.cases.get(self.newest))
            self.became(case, "outcome_unknown")
            assert case is not None
            self.follow(case)

    def follow(self, case: Case) -> None:
        """Take the successor of an unknown outcome for the newest case."""
        assert (case.successor is not None) == (case.status == "outcome_unknown")
        if case.successor is not None:
            successor = self.do(self.cases.get(case.successor))
            assert successor is not None
            assert (successor.status, successor.predecessor, successor.binding) == ("pending", case.id, self.binding)
            assert self.do(self.cases.payload(successor, "request")) == b'{"q":1}'
            self.model[successor.id], self.newest, self.given = "pending", successor.id, set()

    @rule(seconds=st.sampled_from([1, 1800, 3600]))
    def wait(self, seconds: int) -> None:
        self.desk.clock.turn(seconds)
        self.do(self.cases.expire())
        assert self.newest is not None
        case = self.do(self.cases.get(self.newest))
        assert case is not None
        if case.status != self.now:
            self.became(case, "expired")

    @rule()
    def withdraw(self) -> None:
        assert self.newest is not None
        case = self.do(self.cases.withdraw(self.newest, "policy_changed"))
        if self.now in ("pending", "approved"):
            self.became(case, "withdrawn")
        else:
            assert case is None

    @rule(status=st.sampled_from(STATUSES), data=st.data())
    def force(self, status: Status, data: st.DataObject) -> None:
        """Go past the code: the schema refuses."""
        case_id = data.draw(st.sampled_from(sorted(self.model)))
        if status == self.model[case_id] or status in TRANSITIONS[self.model[case_id]]:
            return
        with pytest.raises(IntegrityError):
            self.desk.sql("UPDATE escalation_case SET status = ? WHERE id = ?", (status, case_id))

    @rule()
    def look(self) -> None:
        """What a re-sent request finds is the newest case, or nothing once that no longer speaks."""
        found = self.do(self.cases.find("acme", self.binding))
        if self.now is not None and TRANSITIONS[self.now]:
            assert found is not None
        assert found is None or found.id == self.newest

    def teardown(self) -> None:
        """Hold the whole against the model."""
        for case_id, status in self.model.items():
            case = self.do(self.cases.get(case_id))
            assert case is not None
            assert case.status == status
            arrows = [each for each in self.desk.events(case_id) if each.startswith("case:")]
            assert len(set(arrows)) == len(arrows)
            assert status == "pending" or arrows[-1] == f"case:{status}"


@pytest.fixture
def world() -> Iterator[World]:
    memory = Path("/dev/shm")  # noqa: S108 - a directory in memory, where there is one
    with ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
        world = World(Path(path) / "data")
        stack.callback(world.close)
        yield world


@pytest.mark.timeout(900)
def test_any_order_of_steps(world: World) -> None:
    Machine.world = world
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=6,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    with world.store.reader.connect() as conn:
        head = read_head(conn, "acme")
        assert head is not None
        grown = CompactRange()
        for _, leaf, leaf_hash in read_leaves(conn, "acme", 0, head.current.size):
            assert hash_leaf(leaf) == leaf_hash
            grown = grown.extend((leaf_hash,))
        assert grown == head.current
    world.store.close()
    assert verify(world.store.directory, "acme").holds
