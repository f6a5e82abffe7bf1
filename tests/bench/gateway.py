"""How fast is the gateway beside the same stack without it?

Starts a constant upstream, a bare pass-through (Starlette + aiohttp) and the gateway (`so8t serve`, everything on),
each in its own process, loads each from a further process, and prints requests/s, p50, p99 and the ratio to the bare
pass-through of the same run. Figures of different runs do not compare: the machine is noisy.

    python -m tests.bench.gateway --seconds 5
    python -m tests.bench.gateway --seconds 5 --scripted     without the model: what the gateway itself costs
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPLY = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "All is well."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }
).encode()
CONNECTIONS = (1, 16)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_constant(port: int) -> None:
    """Run an upstream that answers at once."""
    import httptools
    import uvloop

    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(REPLY)}\r\n\r\n".encode()

    class Constant(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            self.transport.write(head + REPLY)  # type: ignore[attr-defined]

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())


def serve_bare(port: int, upstream: str) -> None:
    """Run the pass-through: read, forward, answer."""
    import aiohttp
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    session: aiohttp.ClientSession | None = None

    async def forward(request: Request) -> Response:
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = await request.body()
        headers = {"content-type": "application/json"}
        async with session.post(f"{upstream}/chat/completions", data=body, headers=headers) as reply:
            return Response(await reply.read(), reply.status, media_type="application/json")

    app = Starlette(routes=[Route("/v1/chat/completions", forward, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, loop="uvloop", http="httptools")


def serve_scripted(port: int, upstream: str, data_dir: str) -> None:
    """Run the gateway with a safety model that answers at once."""
    from gateway.app import create_app
    from gateway.cli.serve import run
    from gateway.settings import load_settings
    from tests.doubles import ScriptedSafetyModel

    overrides = {"server.port": port, "upstream.url": upstream, "store.data_dir": data_dir}
    settings = load_settings(overrides=overrides)
    engine = ScriptedSafetyModel()
    engine.judged = _Forgetful()
    run(settings, create_app(settings, engine=engine))


class _Forgetful(list):  # type: ignore[type-arg]
    def append(self, _item: object) -> None:
        """Keep nothing: a long run would fill the memory."""


def load(port: int, connections: int, seconds: float, distinct: bool) -> None:
    """Load one server and print the figures as JSON."""
    import uvloop

    print(json.dumps(uvloop.run(_load(port, connections, seconds, distinct))))


async def _load(port: int, connections: int, seconds: float, distinct: bool) -> dict[str, float]:
    latencies: list[float] = []
    failures = 0
    until = time.perf_counter() + seconds

    async def one(number: int) -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while (started := time.perf_counter()) < until:
            count += 1
            mark = f" {os.getpid()}-{number}-{count}" if distinct else ""
            writer.write(request_bytes(mark))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                failures += 1
            latencies.append(time.perf_counter() - started)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(connections)))
    took = time.perf_counter() - began
    cuts = statistics.quantiles(latencies, n=100)
    return {"rate": len(latencies) / took, "p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3, "failures": failures}


def request_bytes(mark: str) -> bytes:
    """Return one request; ``mark`` makes its text new to any cache."""
    text = f"Please summarise the minutes of yesterday's meeting in three short sentences.{mark}"
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": text}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def process(*arguments: str, ready: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the context ends; wait until ``ready`` answers."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT)
    try:
        _await_ready(child, ready)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)


def _await_ready(child: subprocess.Popen[bytes], url: str | None) -> None:
    deadline = time.monotonic() + 120
    while url is not None:
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the process for {url} did not start")
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own loopback address
            return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.1)


def measure(port: int, connections: int, seconds: float, distinct: bool) -> dict[str, float]:
    """Load a server from another process."""
    command = [sys.executable, "-m", "tests.bench.gateway", "load", str(port), str(connections), str(seconds)]
    output = subprocess.run(
        [*command, "--distinct"] if distinct else command, check=True, capture_output=True, cwd=ROOT
    )
    return dict(json.loads(output.stdout))


def compare(seconds: float, scripted: bool) -> None:
    """Run everything and print the table."""
    upstream_port, bare_port, gateway_port = free_port(), free_port(), free_port()
    upstream = f"http://127.0.0.1:{upstream_port}/v1"
    me = ("-m", "tests.bench.gateway")
    with tempfile.TemporaryDirectory() as data_dir, ExitStack() as stack:
        stack.enter_context(process(*me, "constant", str(upstream_port), ready=f"{upstream}/models"))
        bare = (*me, "bare", str(bare_port), upstream)
        stack.enter_context(process(*bare, ready=f"http://127.0.0.1:{bare_port}/"))
        if scripted:
            gateway: tuple[str, ...] = (*me, "scripted", str(gateway_port), upstream, data_dir)
        else:
            flags = ["--port", str(gateway_port), "--upstream-url", upstream, "--data-dir", data_dir]
            gateway = ("-m", "gateway.cli", "serve", *flags)
        stack.enter_context(process(*gateway, ready=f"http://127.0.0.1:{gateway_port}/readyz"))
        rows = []
        for connections in CONNECTIONS:
            base = measure(bare_port, connections, seconds, distinct=False)
            rows.append(("bare pass-through", connections, base, 1.0))
            for name, distinct in (("gateway, verdict cached", False), ("gateway, verdict new", True)):
                figures = measure(gateway_port, connections, seconds, distinct)
                rows.append((name, connections, figures, figures["rate"] / base["rate"]))
    print(f"{'':26}{'conn':>5}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>7}{'failed':>8}")
    for name, connections, row, ratio in rows:
        print(
            f"{name:26}{connections:>5}{row['rate']:>12.0f}{row['p50']:>9.2f}{row['p99']:>9.2f}"
            f"{ratio:>7.2f}{row['failures']:>8.0f}"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("role", nargs="?", default="compare")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--scripted", action="store_true")
    parser.add_argument("--distinct", action="store_true")
    found = parser.parse_args()
    rest = found.arguments
    match found.role:
        case "compare":
            compare(found.seconds, found.scripted)
        case "constant":
            serve_constant(int(rest[0]))
        case "bare":
            serve_bare(int(rest[0]), rest[1])
        case "scripted":
            serve_scripted(int(rest[0]), rest[1], rest[2])
        case "load":
            load(int(rest[0]), int(rest[1]), float(rest[2]), found.distinct)
        case other:
            parser.error(f"unknown role {other}")


if __name__ == "__main__":
    main()
