"""The writer: groups commits, fails whom it must, and never claims what is not durable."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from gateway.errors import AuditUnavailable
from gateway.store.engine import open_reader, open_writer, upgrade
from gateway.store.writer import Writer


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_writer(tmp_path / "gateway.db")
    upgrade(engine)
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE item (n INTEGER PRIMARY KEY, filler BLOB)")
    yield engine
    engine.dispose()


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    writer = Writer(engine)
    yield writer
    writer.close()


def insert(number: int, size: int = 0) -> Callable[[Connection], int]:
    def run(conn: Connection) -> int:
        conn.exec_driver_sql("INSERT INTO item VALUES (?, ?)", (number, bytes(size)))
        return number

    return run


def insert_all(conn: Connection, numbers: Sequence[int]) -> Sequence[int]:
    for number in numbers:
        insert(number)(conn)
    return [number * 10 for number in numbers]


def state(writer: Writer) -> str:
    return writer.state


def stored(path: Path) -> list[int]:
    """Read what a process that starts now would find."""
    connection = sqlite3.connect(path / "gateway.db")
    numbers = [row[0] for row in connection.execute("SELECT n FROM item ORDER BY n")]
    connection.close()
    return numbers


async def test_what_is_acknowledged_is_in_the_database(writer: Writer, tmp_path: Path) -> None:
    results = await asyncio.gather(*(writer.submit(insert(number)) for number in range(600)))
    assert results == list(range(600))
    assert stored(tmp_path) == list(range(600))


async def test_only_the_function_that_fails_is_taken_back(writer: Writer, tmp_path: Path) -> None:
    def half(conn: Connection) -> None:
        insert(100)(conn)
        raise ValueError("halfway")

    results = await asyncio.gather(
        writer.submit(insert(1)),
        writer.submit(half),
        writer.submit(insert(1)),
        writer.submit(insert(2)),
        return_exceptions=True,
    )
    assert results[0] == 1
    assert isinstance(results[1], ValueError)
    assert "UNIQUE" in str(results[2])
    assert results[3] == 2
    assert stored(tmp_path) == [1, 2]
    assert state(writer) == "open"


async def test_a_bulk_that_fails_is_tried_one_by_one(writer: Writer, tmp_path: Path) -> None:
    numbers = [1, 2, 3, 2, 4]
    results = await asyncio.gather(
        *(writer.submit_item(insert_all, number) for number in numbers), return_exceptions=True
    )
    assert [each for each in results if not isinstance(each, BaseException)] == [10, 20, 30, 40]
    assert stored(tmp_path) == [1, 2, 3, 4]


async def test_neighbours_share_one_call_and_one_commit(writer: Writer) -> None:
    calls: list[int] = []
    gate = threading.Event()

    def bulk(conn: Connection, numbers: Sequence[int]) -> Sequence[int]:
        calls.append(len(numbers))
        return numbers

    blocked = writer.submit(lambda _: gate.wait())
    while writer._queue.qsize():
        await asyncio.sleep(0.01)
    waiting = [writer.submit_item(bulk, number) for number in range(300)]
    gate.set()
    await blocked
    assert await asyncio.gather(*waiting) == list(range(300))
    assert calls == [256, 44]


async def test_a_full_queue_refuses_at_once(engine: Engine) -> None:
    writer = Writer(engine, queue_size=2)
    gate = threading.Event()
    waiting: list[Awaitable[object]] = [writer.submit(lambda _: gate.wait())]
    while writer._queue.qsize():
        await asyncio.sleep(0.01)
    waiting += [writer.submit(insert(number)) for number in range(2)]
    with pytest.raises(AuditUnavailable, match="too many"):
        writer.submit(insert(9))
    gate.set()
    await asyncio.gather(*waiting)
    await asyncio.to_thread(writer.close)


async def test_closing_writes_what_waits_and_refuses_what_comes(writer: Writer, tmp_path: Path) -> None:
    waiting = [writer.submit(insert(number)) for number in range(500)]
    await asyncio.to_thread(writer.close)
    assert await asyncio.gather(*waiting) == list(range(500))
    assert stored(tmp_path) == list(range(500))
    assert state(writer) == "closed"
    with pytest.raises(AuditUnavailable, match="closed"):
        writer.submit(insert(501))


async def test_a_waiter_that_went_away_changes_nothing(writer: Writer, tmp_path: Path) -> None:
    future = writer.submit(insert(1))
    future.cancel()
    assert await writer.submit(insert(2)) == 2
    assert stored(tmp_path) == [1, 2]


def test_a_thread_can_wait_for_a_write(writer: Writer, tmp_path: Path) -> None:
    assert writer.run(insert(1)) == 1
    assert stored(tmp_path) == [1]


async def test_a_full_disk_fails_the_batch_and_writing_goes_on_when_there_is_room(
    writer: Writer, tmp_path: Path
) -> None:
    await writer.submit(insert(1))
    pages = await writer.submit_alone(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    await writer.submit_alone(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages + 4}").fetchone())
    results = await asyncio.gather(
        *(writer.submit(insert(number, 100_000)) for number in range(2, 20)), return_exceptions=True
    )
    assert all(isinstance(each, AuditUnavailable) for each in results)
    assert "full" in str(results[0])
    assert state(writer) == "stalled"
    assert writer.problem is not None
    assert stored(tmp_path) == [1]
    await writer.submit_alone(lambda conn: conn.execute("PRAGMA max_page_count = 1000000").fetchone())
    until = time.monotonic() + 5
    while state(writer) == "stalled" and time.monotonic() < until:
        await asyncio.sleep(0.05)  # nobody writes: the writer's own probe finds out
    assert state(writer) == "open"
    assert await writer.submit(insert(2)) == 2
    assert stored(tmp_path) == [1, 2]


async def test_a_database_that_another_process_blocks_fails_the_batch_and_recovers(
    writer: Writer, tmp_path: Path
) -> None:
    await writer.submit_alone(lambda conn: conn.execute("PRAGMA busy_timeout = 50").fetchall())
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AuditUnavailable, match="locked"):
        await writer.submit(insert(1))
    assert state(writer) == "stalled"
    other.execute("ROLLBACK")
    other.close()
    assert await writer.submit(insert(1)) == 1
    assert state(writer) == "open"


async def test_a_database_that_cannot_be_written_fails_for_good(writer: Writer, tmp_path: Path) -> None:
    await writer.submit(insert(1))
    await writer.submit_alone(lambda conn: conn.execute("PRAGMA query_only = ON").fetchall())
    with pytest.raises(AuditUnavailable):
        await writer.submit(insert(2))
    assert state(writer) == "failed"
    with pytest.raises(AuditUnavailable):
        writer.submit(insert(3))
    assert stored(tmp_path) == [1]


async def test_readers_see_what_is_committed_and_cannot_write(writer: Writer, tmp_path: Path) -> None:
    await writer.submit(insert(1))
    reader = open_reader(tmp_path / "gateway.db")
    with reader.connect() as conn:
        assert conn.exec_driver_sql("SELECT n FROM item").scalars().all() == [1]
        with pytest.raises(Exception, match="readonly"):
            conn.exec_driver_sql("INSERT INTO item VALUES (2, NULL)")
    reader.dispose()


async def test_the_write_ahead_log_does_not_grow_without_end(writer: Writer, tmp_path: Path) -> None:
    for batch in range(20):
        await asyncio.gather(*(writer.submit(insert(batch * 100 + at, 2000)) for at in range(100)))
    await asyncio.sleep(0.8)
    for batch in range(20, 22):
        await asyncio.gather(*(writer.submit(insert(batch * 100 + at, 2000)) for at in range(100)))
    assert (tmp_path / "gateway.db").stat().st_size > 3_000_000
    await asyncio.to_thread(writer.close)
    wal = tmp_path / "gateway.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0


def test_the_writing_connection_keeps_every_promise(engine: Engine) -> None:
    with engine.connect() as conn:
        values = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "wal_autocheckpoint")
        }
    assert values == {
        "journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1, "wal_autocheckpoint": 0
    }  # fmt: skip
