"""A process that opens, approves, uses and finishes cases as fast as it can. Killed by the test.

Prints what it was told is durable: ``opened ID``, ``consumed ID``, ``done ID``. Each consume stands for a call that may
have been made.
"""

import asyncio
import os
import sys
from pathlib import Path

from gateway.escalation.cases import Cases
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.gateway.escalation.desk import ANSWER, OTHER, REVIEWER, REVISION, opening

CLIENTS = 8


def tell(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


async def main(path: Path) -> None:
    store = Store(DataDirectory(path), publish_interval_s=0.05)
    cases = Cases(store.reader, store.writer, store.trail, open_per_key=1_000_000)
    for successor in await cases.recover():
        tell("recovered", successor.predecessor or "", successor.id)
    tell("ready")

    async def use(case_id: str) -> None:
        if await cases.consume(case_id, REVISION) is not None:
            tell("consumed", case_id)
            await cases.complete(case_id, ANSWER)
            tell("done", case_id)

    async def client(number: int) -> None:
        count = 0
        while True:
            count += 1
            case = await cases.open(opening(f"{os.getpid()}-{number}-{count}"))
            tell("opened", case.id)
            if count % 5 == 0:
                await cases.rule(case.id, OTHER, "deny")
                continue
            await cases.rule(case.id, REVIEWER, "approve")
            await asyncio.gather(*(use(case.id) for _ in range(3)))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
