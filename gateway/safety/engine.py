"""The safety engine: the judge in a process of its own, supervised, with a bounded queue.

Killed, it comes back by itself; requests meanwhile get ``JudgeUnavailable``, never an unjudged pass.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import orjson

from gateway.errors import JudgeUnavailable, ReleaseError
from gateway.parts import Conversation
from gateway.safety.frames import LENGTH, MAX_FRAME, conversation_to_wire, pack, verdict_from_wire
from gateway.safety.release import Release, builtin_release, open_release
from gateway.telemetry import logger
from gateway.verdict import Stage, Verdict

State = Literal["starting", "ready", "failed", "closed"]
RESTART_DELAYS: Final = (0.0, 0.2, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the judge runs."""

    release: Path | None = None
    """Folder of the release; None for the built-in one."""
    threads: int = 2
    """Threads of llama.cpp."""
    timeout_s: float = 10.0
    """A verdict that takes longer is ``JudgeUnavailable("timeout")``."""
    hang_s: float = 30.0
    """A judge that owes an answer for so long is killed and started anew."""
    queue: int = 256
    """Verdicts under way at most; more are ``JudgeUnavailable("overloaded")``."""
    cells: int = 12288
    """Tokens of the key-value cache, over all sequences."""
    cache: int = 20_000
    """Read-outs in the verdict cache."""


_Answers = asyncio.Queue[dict[str, Any]]


class SafetyEngine:
    """Judges conversations and writes the Task head's replies in a supervised child process."""

    def __init__(self, options: EngineOptions | None = None) -> None:
        """Verify the release.

        Raises:
            ReleaseError: the release is missing or altered.
        """
        self.options = options or EngineOptions()
        self.release: Release = open_release(self.options.release or builtin_release())
        self.state: State = "starting"
        self.failure: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._waiters: dict[int, _Answers] = {}
        self._owed: dict[int, float] = {}
        """When the judge was last heard of about each number, also of those that nobody waits for any more."""
        self._numbers = itertools.count(1)
        self._supervisor: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id of the judge, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the judge and wait until it is ready.

        Raises:
            ReleaseError: the release does not load.
        """
        self._supervisor = asyncio.create_task(self._supervise())
        await self._settled.wait()
        if self.state == "failed":
            raise ReleaseError(self.failure or "the judge does not start")

    async def close(self) -> None:
        """End the judge and fail what is still waiting."""
        self.state = "closed"
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        await self._end_process()
        self._fail_all("crashed", "the gateway is shutting down")

    async def judge(
        self,
        organization: str,
        conversation: Conversation,
        *,
        stage: Stage,
        rationale: bool = False,
        last_only: bool | None = None,
    ) -> Verdict:
        """Return the worst of all readings of ``conversation``.

        At stage ``request`` every user and tool message and every call is read; at ``response`` only the last
        message (each call that it proposes). ``last_only`` overrides that.

        Raises:
            JudgeUnavailable: no verdict: ``timeout``, ``crashed``, ``overloaded``, ``starting`` or ``failed``.
        """
        number = next(self._numbers)
        answers = self._enter(number)
        try:
            self._write(
                {
                    "op": "judge",
                    "id": number,
                    "organization": organization,
                    "conversation": conversation_to_wire(conversation),
                    "last_only": stage == "response" if last_only is None else last_only,
                    "rationale": rationale,
                }
            )
            async with asyncio.timeout(self.options.timeout_s):
                answer = await answers.get()
        except TimeoutError:
            raise JudgeUnavailable("timeout", f"no verdict within {self.options.timeout_s:g} s") from None
        finally:
            self._waiters.pop(number, None)
        if answer["op"] == "verdict":
            return verdict_from_wire(answer["verdict"])
        raise JudgeUnavailable(answer.get("reason", "failed"), answer["message"])

    async def generate(self, conversation: Conversation, max_tokens: int) -> AsyncIterator[str]:
        """Yield the Task head's reply piece by piece; leaving early stops the writing.

        Raises:
            JudgeUnavailable: the process is not there, or all its generations are taken.
        """
        number = next(self._numbers)
        answers = self._enter(number)
        done = False
        pending = b""
        try:
            body = {"op": "generate", "id": number, "limit": max_tokens}
            self._write({**body, "conversation": conversation_to_wire(conversation)})
            while True:
                answer = await answers.get()
                if answer["op"] == "end":
                    done = True
                    if pending:
                        yield pending.decode("utf-8", "replace")
                    return
                if answer["op"] != "text":
                    done = True
                    reason = "overloaded" if answer["message"] == "overloaded" else answer.get("reason", "failed")
                    raise JudgeUnavailable(reason, answer["message"])
                pending += bytes.fromhex(answer["bytes"])
                text, pending = _whole_characters(pending)
                if text:
                    yield text
        finally:
            self._waiters.pop(number, None)
            if not done:
                with suppress(JudgeUnavailable):
                    self._write({"op": "cancel", "id": number})

    def _enter(self, number: int) -> _Answers:
        if self.state != "ready":
            raise JudgeUnavailable("failed" if self.state == "failed" else "starting", "the judge is not ready")
        if len(self._owed) >= self.options.queue:
            raise JudgeUnavailable("overloaded", f"{self.options.queue} verdicts are under way")
        answers: _Answers = asyncio.Queue()
        self._waiters[number] = answers
        self._owed[number] = asyncio.get_running_loop().time()
        return answers

    def _write(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdin.is_closing():
            raise JudgeUnavailable("crashed", "the judge is gone")
        process.stdin.write(pack(message))

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            started = loop.time()
            await self._run_once()
            if self.state == "failed":
                return
            self.state = "starting"
            self._fail_all("crashed", "the judge ended while it owed an answer")
            attempt = 0 if loop.time() - started > 10 else attempt + 1
            delay = RESTART_DELAYS[min(attempt, len(RESTART_DELAYS) - 1)]
            logger.warning("judge ended", extra={"restart_in_s": delay})
            await asyncio.sleep(delay)

    async def _run_once(self) -> None:
        options = self.options
        numbers = (options.threads, options.cells, options.cache)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.safety.worker",
            str(self.release.folder.resolve()),
            *(str(n) for n in numbers),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        watch = asyncio.create_task(self._watch_for_hangs(self._process))
        try:
            stdout = cast(asyncio.StreamReader, self._process.stdout)
            while True:
                prefix = await stdout.readexactly(LENGTH.size)
                size = LENGTH.unpack(prefix)[0]
                if size > MAX_FRAME:
                    return
                self._receive(orjson.loads(await stdout.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError, orjson.JSONDecodeError):
            return
        finally:
            watch.cancel()
            await self._end_process()

    def _receive(self, message: dict[str, Any]) -> None:
        if message["op"] == "ready" and message["digest"] != self.release.digest:
            self._fail(f"{self.release.folder}: the release was replaced while the gateway ran; restart the gateway")
        elif message["op"] == "ready":
            self.state = "ready"
            self._settled.set()
        elif message["op"] == "failed":
            self._fail(message["message"])
        else:
            number = message["id"]
            if message["op"] == "text":
                self._owed[number] = asyncio.get_running_loop().time()
            else:
                self._owed.pop(number, None)
            if (answers := self._waiters.get(number)) is not None:
                answers.put_nowait(message)

    def _fail(self, message: str) -> None:
        self.state, self.failure = "failed", message
        self._fail_all("failed", message)
        self._settled.set()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _watch_for_hangs(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self.options.hang_s / 4))
            oldest = min(self._owed.values(), default=loop.time())
            if loop.time() - oldest > self.options.hang_s:
                logger.error("judge hangs and is killed", extra={"pid": process.pid})
                process.kill()
                return

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()

    def _fail_all(self, reason: str, message: str) -> None:
        self._owed.clear()
        for answers in self._waiters.values():
            answers.put_nowait({"op": "error", "reason": reason, "message": message})


def _whole_characters(raw: bytes) -> tuple[str, bytes]:
    """Split off an incomplete UTF-8 sequence at the end."""
    for cut in range(min(3, len(raw)) + 1):
        head = raw[: len(raw) - cut]
        with suppress(UnicodeDecodeError):
            return head.decode("utf-8"), raw[len(raw) - cut :]
    return raw.decode("utf-8", "replace"), b""
