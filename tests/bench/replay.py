"""How fast is a policy replayed over the recorded past?

Writes ``--count`` recorded inputs into a fresh data directory, then runs ``so8t policy replay`` over them in a process
of its own and prints its wall time and the memory of all its processes at the highest.

    python -m tests.bench.replay --count 1000000
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psutil  # type: ignore[import-untyped]
from uuid6 import uuid7

from gateway.parts import ToolCall, Unjudged
from gateway.policy import Facts, decide, load_bundle
from gateway.policy.inputs import input_row
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.inputs import add_inputs
from gateway.store.store import Store
from gateway.verdict import Label, Reading, Scores, Stage, Thresholds, Verdict

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "policies" / "examples" / "en"
RELEASE = Thresholds(0.5, 0.5)
DRAWN = 20_000


def draw(rng: random.Random, domains: tuple[str, ...]) -> Facts:
    """Return facts as traffic has them: nine of ten harmless, one of eight proposes a call."""
    harmless = rng.random() < 0.9
    shares = [rng.random() ** (0.3 if harmless else 1), rng.random() ** 3, rng.random() ** 2]
    scores = Scores(*(share / sum(shares) for share in shares))
    named = {name: round(rng.random(), 6) for name in domains}
    label = RELEASE.label(scores)
    tools = rng.choice(["show_balance", "transfer", "open_account", "export", "look_up"])
    calls = (ToolCall(tools, "{}", "/x"),) if rng.random() < 0.125 else ()
    verdict = Verdict(
        label, scores, None if label is Label.ALLOW else max(named, key=lambda name: named[name]), named, "/x", "r",
        "0" * 64, 1, rng.randrange(10, 4000), (Reading("/x", scores, named),),
        (Unjudged("/y", "image"),) if rng.random() < 0.02 else (),
    )  # fmt: skip
    principal = Principal("bank", f"key{rng.randrange(20):02}", "someone")
    stage: Stage = "response" if calls else "request"
    return Facts(stage, verdict, calls, RELEASE, principal=principal, kinds=("user",), turns=1, now=0)


def rows(count: int) -> Iterator[list[dict[str, Any]]]:
    """Yield recorded inputs in batches: DRAWN different ones, each with its own id."""
    policy = load_bundle(EXAMPLES).policy("nobody")
    rng = random.Random(6)
    drawn = []
    for _ in range(min(count, DRAWN)):
        facts = draw(rng, tuple(policy.domains))
        drawn.append(input_row(facts, decide(policy, facts, decision_id="x"), 0))
    for begin in range(0, count, 10_000):
        yield [
            {**drawn[(begin + index) % len(drawn)], "decision_id": str(uuid7()), "at": 1_700_000_000_000 + begin}
            for index in range(min(10_000, count - begin))
        ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        directory = DataDirectory(Path(folder))
        began = time.perf_counter()
        with Store(directory) as store:
            for batch in rows(count):
                store.writer.run(partial(add_inputs, rows=batch))
        size = directory.database.stat().st_size / 1e6
        print(f"written: {count:,} inputs, {size:,.0f} MB, {time.perf_counter() - began:.1f} s", file=sys.stderr)
        command = [sys.executable, "-m", "gateway.cli", "policy", "replay", str(EXAMPLES / "bank.yaml")]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "--data-dir", folder, "--json"], stdout=subprocess.PIPE)
        peak = watch(process)
        seconds = time.perf_counter() - began
        report = orjson.loads(process.stdout.read() if process.stdout else b"")
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    print(
        f"replayed: {report['total']:,} inputs in {seconds:.1f} s ({report['total'] / seconds:,.0f}/s), {cpu:.1f} s CPU"
    )
    print(f"memory of all processes: {peak / 1e6:,.0f} MB; flipped {report['flipped']:,}", end=", ")
    print(f"not replayable {report['not_replayable']:,}")


def watch(process: "subprocess.Popen[bytes]") -> int:
    """Return the highest sum of resident bytes of a process and its children until it ends."""
    peak = 0
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
    return peak


if __name__ == "__main__":
    main()
