"""What does it cost to hold many clients while people decide?

Starts a constant upstream and the gateway (`so8t serve`, everything on), measures other traffic alone, holds many
requests that wait for people, and measures the same traffic beside them; then lets them hang up and come back, and so
on. Prints the memory of the gateway's processes and p50 and p99 of the other traffic, and the ratio of each pair's p99
to that without anybody waiting. Figures of different runs do not compare: the machine is noisy.

    python -m tests.bench.holding --held 1000 --seconds 10 --rounds 3
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.bench.gateway import free_port, process

POLICY = """\
version: 1
organization: bench
escalation: {hold: 10m}
rules:
  - {id: ann-asks, when: 'stage == "request" && principal.owner == "ann"', effect: escalate}
"""
OPENING = 16
"""How many cases are being opened at once."""


@dataclass
class Place:
    """A gateway and the keys of who waits and who does not."""

    port: int
    waits: str
    passes: str


def _request(key: str, text: str) -> bytes:
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": text}]}).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: localhost", f"authorization: Bearer {key}")
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def measure(place: Place, connections: int, seconds: float) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds of traffic that nobody need decide about."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        while (started := time.perf_counter()) < until:
            writer.write(_request(place.passes, "Please summarise the minutes of yesterday's meeting."))
            status, _ = await _read(reader)
            if status != 200:
                raise RuntimeError(f"other traffic got {status}")
            latencies.append((time.perf_counter() - started) * 1000)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    cuts = statistics.quantiles(latencies, n=100)
    return cuts[49], cuts[98]


async def hold(place: Place, count: int, database: Path) -> list[asyncio.StreamWriter]:
    """Return the connections of ``count`` requests, once each has its case and waits."""
    writers = []
    for number in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(_request(place.waits, f"Please suggest a good name for bakery number {number}."))
        await writer.drain()
        writers.append(writer)
        while pending(database) < len(writers) - OPENING:
            await asyncio.sleep(0.01)
    while pending(database) < count:
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)  # those that come back have their cases already: they need a moment to sit down
    return writers


def pending(database: Path) -> int:
    """Return how many cases wait."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as conn:
        (count,) = conn.execute("SELECT count(*) FROM escalation_case WHERE status = 'pending'").fetchone()
    return int(count)


def memory(pid: int) -> float:
    """Return the resident memory of a process and its children in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(status.split("VmRSS:")[1].split()[0]) / 1000
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(memory(int(child)) for child in children)


async def compare(place: Place, pid: int, database: Path, options: argparse.Namespace) -> None:
    """Measure in pairs and print."""
    await measure(place, options.connections, options.seconds)  # warm
    first = memory(pid)
    ratios = []
    print(f"{'waiting':>8}{'MB':>8}{'more MB':>9}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>7}")
    for _ in range(options.rounds):
        alone = await measure(place, options.connections, options.seconds)
        print(f"{0:>8}{memory(pid):>8.0f}{memory(pid) - first:>9.0f}{alone[0]:>9.2f}{alone[1]:>9.2f}{1:>7.2f}")
        writers = await hold(place, options.held, database)
        beside = await measure(place, options.connections, options.seconds)
        ratios.append(beside[1] / alone[1])
        more = memory(pid) - first
        print(f"{len(writers):>8}{memory(pid):>8.0f}{more:>9.0f}{beside[0]:>9.2f}{beside[1]:>9.2f}{ratios[-1]:>7.2f}")
        for writer in writers:
            writer.close()
        await asyncio.sleep(2)
    print(f"median ratio of p99: {statistics.median(ratios):.2f}")


def main() -> None:
    """Start everything and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--held", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        home = Path(scratch)
        directory = DataDirectory(home / "var")
        with Store(directory) as store:
            made = [
                store.command({"action": "create", "organization": "bench", "owner": owner, "actor": "bench"})["key"]
                for owner in ("ann", "bob")
            ]
        (home / "policies").mkdir()
        (home / "policies" / "bench.yaml").write_text(POLICY)
        room = {"waiters_per_key": options.held + 100, "open_per_key": options.held + 100}
        (home / "so8t.yaml").write_text(json.dumps({"escalation": {"waiters": options.held + 100, **room}}))
        upstream_port, place = free_port(), Place(free_port(), *made)
        upstream = f"http://127.0.0.1:{upstream_port}/v1"
        constant = ("-m", "tests.bench.gateway", "constant", str(upstream_port))
        stack.enter_context(process(*constant, ready=f"{upstream}/models"))
        flags = ["--port", str(place.port), "--upstream-url", upstream, "--data-dir", str(directory.path)]
        flags += ["--policies", str(home / "policies"), "--config", str(home / "so8t.yaml")]
        ready = f"http://127.0.0.1:{place.port}/readyz"
        child = stack.enter_context(process("-m", "gateway.cli", "serve", *flags, ready=ready))
        uvloop.run(compare(place, child.pid, directory.database, options))


if __name__ == "__main__":
    main()
