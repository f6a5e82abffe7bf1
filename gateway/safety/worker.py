"""The judge's process: frames on standard input, frames on standard output, nothing shared with the event loop.

``python -m gateway.safety.worker RELEASE THREADS CELLS CACHE``. Requests: ``judge``, ``generate``, ``cancel``. Answers:
``ready``, ``failed`` (the release does not load), ``verdict``, ``text``, ``end``, ``error``. Ends when its input ends.
"""

import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from gateway.errors import ReleaseError
from gateway.safety.frames import LENGTH, conversation_from_wire, pack
from gateway.safety.judging import Generation, Job, Judging
from gateway.safety.release import open_release
from gateway.verdict import Verdict

MICRO_BATCH: Final = 48


class Worker:
    """Reads requests on one thread (rendering, cache), runs the trunk on another."""

    def __init__(self, judging: Judging, source: BinaryIO, sink: BinaryIO) -> None:
        self._judging = judging
        self._source = source
        self._sink = sink
        self._sink_lock = threading.Lock()
        self._work: queue.SimpleQueue[Job | dict[str, Any] | None] = queue.SimpleQueue()
        self._replies: dict[int, Generation] = {}
        self._waiting: list[tuple[Job, Verdict, int]] = []

    def send(self, message: dict[str, Any]) -> None:
        """Write one frame."""
        with self._sink_lock:
            self._sink.write(pack(message))
            self._sink.flush()

    def listen(self) -> None:
        """Take requests until the input ends, then stop the other thread."""
        while len(prefix := self._source.read(LENGTH.size)) == LENGTH.size:
            request = orjson.loads(self._source.read(LENGTH.unpack(prefix)[0]))
            if request["op"] != "judge":
                self._work.put(request)
                continue
            try:
                job = self._judging.prepare(
                    request["id"],
                    request["organization"],
                    conversation_from_wire(request["conversation"]),
                    last_only=request["last_only"],
                    rationale=request["rationale"],
                )
                if job.cached and not job.rationale:
                    self._send_verdict(job, self._judging.verdict(job)[0])
                else:
                    self._work.put(job)
            except Exception as error:  # noqa: BLE001 - one bad job must not end the judge
                self.send({"op": "error", "id": request["id"], "message": repr(error)})
        self._work.put(None)

    def run(self) -> None:
        """Judge in micro-batches and write texts in between, until told to stop."""
        while True:
            busy = bool(self._judging.generations or self._waiting)
            jobs: list[Job] = []
            while len(jobs) < MICRO_BATCH:
                try:
                    item = self._work.get(block=not busy and not jobs)
                except queue.Empty:
                    break
                if item is None:
                    return
                if isinstance(item, Job):
                    jobs.append(item)
                else:
                    self._control(item)
                    busy = True
            self._judge(jobs)
            self._start_rationales()
            self._judging.step()

    def _judge(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        try:
            self._judging.read(jobs)
            for job in jobs:
                verdict, worst = self._judging.verdict(job)
                if job.rationale:
                    self._waiting.append((job, verdict, worst))
                else:
                    self._send_verdict(job, verdict)
        except Exception as error:  # noqa: BLE001
            for job in jobs:
                self.send({"op": "error", "id": job.id, "message": repr(error)})

    def _start_rationales(self) -> None:
        while self._waiting and self._judging.can_generate:
            job, verdict, worst = self._waiting.pop(0)

            def finish(text: str, job: Job = job, verdict: Verdict = verdict) -> None:
                self._send_verdict(job, verdict, text)

            self._judging.start_rationale(job.prompts[worst], verdict.label, verdict.domain, finish)

    def _send_verdict(self, job: Job, verdict: Verdict, rationale: str = "") -> None:
        self.send({"op": "verdict", "id": job.id, "verdict": {**asdict(verdict), "rationale": rationale}})

    def _control(self, request: dict[str, Any]) -> None:
        number = request["id"]
        if request["op"] == "cancel":
            if number in self._replies:
                self._replies[number].cancelled = True
            return
        if not self._judging.can_generate:
            self.send({"op": "error", "id": number, "message": "overloaded"})
            return

        def finish() -> None:
            self._replies.pop(number, None)
            self.send({"op": "end", "id": number})

        self._replies[number] = self._judging.start_reply(
            conversation_from_wire(request["conversation"]),
            request["limit"],
            lambda piece: self.send({"op": "text", "id": number, "bytes": piece.hex()}),
            finish,
        )


def main(arguments: list[str]) -> int:
    """Serve one release until standard input ends; 1 when it does not load."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    sink = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)
    folder, threads, cells, cache = arguments
    try:
        judging = Judging(open_release(Path(folder)), threads=int(threads), cells=int(cells), cache_size=int(cache))
    except ReleaseError as error:
        sink.write(pack({"op": "failed", "message": str(error)}))
        sink.flush()
        return 1
    worker = Worker(judging, source, sink)
    release = judging.release
    worker.send({"op": "ready", "release": release.id, "digest": release.digest})
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.run()
    judging.trunk.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
