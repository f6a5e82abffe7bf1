"""A process that writes entries as fast as it can, and prints each id once it is acknowledged. Killed by the test."""

import asyncio
import os
import sys
from pathlib import Path

from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.gateway.store.entries import enforcement

CLIENTS = 32


async def main(path: Path) -> None:
    store = Store(DataDirectory(path), publish_interval_s=0.05)
    os.write(1, b"ready\n")

    async def client() -> None:
        while True:
            receipt = await store.trail.record("acme", "enforcement", enforcement(), {"reply": b"x" * 500})
            os.write(1, f"{receipt.entry_id}\n".encode())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
