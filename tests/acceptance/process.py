"""The gateway as its users run it: a process, a port, a data directory."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anthropic
import openai
import orjson
import requests

from tests.bench.gateway import free_port

SO8T = (sys.executable, "-m", "gateway.cli")


def so8t(*arguments: str, check: bool = True) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run([*SO8T, *arguments], capture_output=True, text=True, timeout=300, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"so8t {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class GatewayProcess:
    """``so8t serve`` on a free port. It can be killed and started again on the same directory."""

    def __init__(self, data_dir: Path, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self._environment = environment or {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._flags = ("--port", str(self.port), "--data-dir", str(data_dir), *flags)
        self.log = data_dir.with_suffix(".log")
        self._clients: list[openai.OpenAI | anthropic.Anthropic] = []

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SO8T_")}
        environment = inherited | dict(self._environment)
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [*SO8T, "serve", *self._flags], stdout=log, stderr=log, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + 300
        while True:
            assert self.child.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                if requests.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return self
            except requests.RequestException:
                pass
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            assert self.child.wait(60) == 0

    def kill(self) -> None:
        """Kill the gateway and its children as a power cut would."""
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait(10)

    def kill_judge(self) -> None:
        """Kill the engine's own process."""
        victims = [pid for pid in _descendants(self.child.pid) if b"resource_tracker" not in _command(pid)]
        assert victims, "the engine is no process of its own"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        """Return the real OpenAI client, pointed here; it is closed with the gateway."""
        client = openai.OpenAI(api_key=key, base_url=f"{self.url}/v1", **options)
        self._clients.append(client)
        return client

    def anthropic_client(self, key: str = "none", **options: Any) -> anthropic.Anthropic:
        """Return the real Anthropic client, pointed here; it is closed with the gateway."""
        client = anthropic.Anthropic(api_key=key, base_url=self.url, **options)
        self._clients.append(client)
        return client

    def entries(self, organization: str = "default") -> list[dict[str, Any]]:
        """Return the entries of the audit log, oldest first."""
        command = ("audit", "show", "--data-dir", str(self.data_dir), "--org", organization, "--json", "-n", "1000000")
        return [record["entry"] for record in orjson.loads(so8t(*command))]


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [deeper for child in children for deeper in _descendants(child)]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def moments(count: int, longest_s: float, seed: int = 8) -> list[float]:
    """Return ``count`` random moments, the same in each run."""
    source = random.Random(seed)
    return [source.uniform(0.01, longest_s) for _ in range(count)]
