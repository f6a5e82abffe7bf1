"""The writer: one thread that owns the one writing connection and commits in groups."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal, TypeVar, cast

from sqlalchemy import Connection, Engine, delete, insert

from gateway.errors import AuditUnavailable
from gateway.store.faults import LostTransaction, decisive, is_fatal, is_recoverable
from gateway.store.schema import store_probe
from gateway.telemetry import logger

BATCH: Final = 256
QUEUE: Final = 8192
PROBE_INTERVAL_S: Final = 1.0
CHECKPOINT_BATCHES: Final = 64
CHECKPOINT_IDLE_S: Final = 0.5

State = Literal["open", "stalled", "failed", "closed"]


I = TypeVar("I")  # noqa: E741 - item
R = TypeVar("R")
Bulk = Callable[[Connection, Sequence[I]], Sequence[R]]
"""Handles many items at once inside a transaction and returns a result for each, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    bulk: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    item: Any
    loop: asyncio.AbstractEventLoop | None
    future: "asyncio.Future[Any] | Future[Any]"
    alone: bool = False


@dataclass(slots=True)
class _Outcome:
    job: _Job
    result: Any = None
    error: Exception | None = None

    def deliver(self) -> None:
        """Resolve the future, unless whoever waited has gone."""
        future = self.job.future
        if future.done():
            return
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.result)


def _single(conn: Connection, functions: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    return [function(conn) for function in functions]


class Writer:
    """Runs functions in transactions, one thread, in the order submitted; whatever waits shares one commit.

    A result is delivered only after the commit, fsync included. A function that fails takes back only what it did. An
    error of the database itself fails the whole batch with AuditUnavailable, and then ``state`` is

    - ``stalled`` after a full disk or a busy database: the writer tries each second, and every batch is a try;
    - ``failed`` after anything else (an I/O error, a corrupt file): for good, since an fsync that failed once may
      succeed next time without the data (the "fsyncgate" of 2018).
    """

    def __init__(self, engine: Engine, *, queue_size: int = QUEUE) -> None:
        self.state: State = "open"
        self.problem: str | None = None
        self._queue: queue.Queue[_Job | None] = queue.Queue(queue_size)
        self._closing = threading.Event()
        self._since_checkpoint = 0
        self._connection = engine.connect()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[Connection], R]) -> "asyncio.Future[R]":
        """Run ``function`` in a transaction; the future resolves once it is durable.

        AuditUnavailable when it cannot be. Must be called on a running event loop.
        """
        return self.submit_item(cast("Bulk[Callable[[Connection], R], R]", _single), function)

    def submit_item(self, bulk: "Bulk[I, R]", item: I) -> "asyncio.Future[R]":
        """Like ``submit``, for something that ``bulk`` handles faster together: neighbours with one ``bulk`` are."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._put(_Job(bulk, item, loop, future))
        return future

    def run(self, function: Callable[[Connection], R]) -> R:
        """Like ``submit``, from a thread that may block."""
        future: Future[R] = Future()
        self._put(_Job(_single, function, None, future))
        return future.result()

    def submit_alone(self, function: Callable[[sqlite3.Connection], R]) -> "asyncio.Future[R]":
        """Run ``function`` between two batches, outside of a transaction: for SQLite's checkpoints and VACUUM."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._put(_Job(_single, function, loop, future, alone=True))
        return future

    def close(self) -> None:
        """Write what waits, then stop; later submissions fail."""
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        self._thread.join()

    def _put(self, job: _Job) -> None:
        if self._closing.is_set():
            raise AuditUnavailable("the writer is closed")
        if self.state == "failed":
            raise AuditUnavailable(f"the log cannot be written: {self.problem}")
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise AuditUnavailable("too many entries wait to be written") from None

    def _run(self) -> None:
        while True:
            jobs = self._take()
            if jobs and jobs[-1].alone:
                last = jobs.pop()
                self._deliver(self._write(jobs) if jobs else [])
                self._deliver([self._alone(last)])
            elif jobs:
                self._deliver(self._write(jobs))
            elif self._closing.is_set() and self._queue.empty():
                break
            elif self.state == "stalled":
                self._probe()
            self._checkpoint(idle=not jobs)
        self._since_checkpoint = 1
        self._checkpoint(idle=True)
        self._connection.close()
        if self.state != "failed":
            self.state = "closed"

    def _take(self) -> list[_Job]:
        """Return what waits, at most a batch; empty after a while without anything."""
        wait = CHECKPOINT_IDLE_S if self._since_checkpoint else PROBE_INTERVAL_S if self.state == "stalled" else None
        try:
            first = self._queue.get(timeout=wait)
        except queue.Empty:
            return []
        found = [] if first is None else [first]
        while len(found) < BATCH and not (found and found[-1].alone):
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                found.append(job)
        return found

    def _write(self, jobs: list[_Job]) -> list[_Outcome]:
        if self.state == "failed":
            return self._refuse(jobs)
        try:
            outcomes = self._together(jobs) or self._apart(jobs)
        except Exception as error:  # noqa: BLE001 - whatever the database says, everybody is told
            self._fail(error)
            return self._refuse(jobs)
        self._since_checkpoint += 1
        self._recover()
        return outcomes

    def _together(self, jobs: list[_Job]) -> list[_Outcome]:
        """Run jobs of one kind in one transaction; empty, and nothing done, when they are several or one fails."""
        if any(job.bulk is not jobs[0].bulk for job in jobs):
            return []
        try:
            with self._connection.begin():
                results = jobs[0].bulk(self._connection, [job.item for job in jobs])
                self._check_transaction()
        except Exception as error:
            if is_fatal(error):
                raise
            return []
        return [_Outcome(job, result) for job, result in zip(jobs, results, strict=True)]

    def _apart(self, jobs: list[_Job]) -> list[_Outcome]:
        """Run jobs in one transaction so that one which fails takes back only its own."""
        outcomes: list[_Outcome] = []
        with self._connection.begin():
            for _, group in groupby(jobs, key=lambda job: job.bulk):
                outcomes += self._group(list(group))
            self._check_transaction()
        return outcomes

    def _group(self, jobs: list[_Job]) -> list[_Outcome]:
        """Run neighbours together; if that fails and it is not the database's fault, each alone."""
        try:
            with self._connection.begin_nested():
                results = jobs[0].bulk(self._connection, [job.item for job in jobs])
        except Exception as error:
            if is_fatal(error):
                raise
            self._check_transaction()
            if len(jobs) == 1:
                return [_Outcome(jobs[0], error=error)]
            return [outcome for job in jobs for outcome in self._group([job])]
        return [_Outcome(job, result) for job, result in zip(jobs, results, strict=True)]

    def _alone(self, job: _Job) -> _Outcome:
        try:
            return _Outcome(job, job.item(_driver(self._connection)))
        except Exception as error:  # noqa: BLE001
            if is_fatal(error):
                self._fail(error)
            return _Outcome(job, error=error)

    def _check_transaction(self) -> None:
        """Raise when SQLite has taken the whole transaction back on its own (full disk, I/O error)."""
        if self._connection.dialect.name == "sqlite" and not _driver(self._connection).in_transaction:
            raise LostTransaction("the transaction was lost")

    def _refuse(self, jobs: list[_Job]) -> list[_Outcome]:
        return [_Outcome(job, error=AuditUnavailable(f"the log cannot be written: {self.problem}")) for job in jobs]

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        """Resolve the futures: one call into each event loop for all of its own."""
        loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for outcome in outcomes:
            if outcome.job.loop is None:
                outcome.deliver()
            else:
                loops.setdefault(outcome.job.loop, []).append(outcome)
        for loop, own in loops.items():
            try:
                loop.call_soon_threadsafe(_deliver_all, own)
            except RuntimeError:
                logger.warning("%d writes became durable after their event loop had closed", len(own))

    def _fail(self, error: Exception) -> None:
        self.problem = str(decisive(error) or error)
        self.state = "stalled" if is_recoverable(error) else "failed"
        logger.error("the audit log cannot be written", extra={"problem": self.problem, "state": self.state})

    def _recover(self) -> None:
        if self.state == "stalled":
            logger.warning("the audit log can be written again")
            self.state, self.problem = "open", None

    def _probe(self) -> None:
        """Try to write and take back 64 KiB."""
        try:
            with self._connection.begin():
                self._connection.execute(insert(store_probe).values(filler=bytes(65536)))
            with self._connection.begin():
                self._connection.execute(delete(store_probe))
        except Exception as error:  # noqa: BLE001
            if not is_recoverable(error):
                self._fail(error)
            return
        self._recover()

    def _checkpoint(self, *, idle: bool) -> None:
        """Move the WAL into the database when there is time for it, or when it has grown long."""
        due = self._since_checkpoint and (idle or self._since_checkpoint >= CHECKPOINT_BATCHES)
        if not due or self.state != "open" or self._connection.dialect.name != "sqlite":
            return
        self._since_checkpoint = 0
        try:
            checkpoint(_driver(self._connection), "TRUNCATE" if self._closing.is_set() else "PASSIVE")
        except Exception as error:  # noqa: BLE001
            self._fail(error)


def checkpoint(connection: sqlite3.Connection, mode: Literal["PASSIVE", "TRUNCATE"]) -> bool:
    """Move the WAL into the database, outside of a transaction; return whether all of it could be."""
    busy, written, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return not busy and written == moved


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _deliver_all(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.deliver()
