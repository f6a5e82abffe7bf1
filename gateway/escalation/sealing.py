"""What a case keeps in the vault: sealed before its transaction, opened on demand."""

import asyncio
from collections.abc import Mapping
from typing import Final

import orjson

from audit.vault import OrganizationKey, Sealed
from gateway.escalation.case import StoredAnswer
from gateway.store.records import SEAL_INLINE

ANSWER: Final = "answer"
"""The payload of the entry that completes a case."""
TEXT: Final = "text"
"""The payload of a ruling's entry: what the reviewer wrote."""


async def seal(key: OrganizationKey, entry_id: str, payloads: Mapping[str, bytes]) -> tuple[Sealed, ...]:
    """Return ``payloads`` sealed for an entry; large ones are sealed in a thread."""

    def sealed() -> tuple[Sealed, ...]:
        return tuple(key.seal(entry_id, name, data) for name, data in payloads.items())

    return await asyncio.to_thread(sealed) if sum(map(len, payloads.values())) > SEAL_INLINE else sealed()


async def unseal(key: OrganizationKey, sealed: Sealed) -> bytes:
    """Return a payload; a large one is opened in a thread. audit.errors.VaultError when it was altered."""
    if len(sealed.ciphertext) > SEAL_INLINE:
        return (await asyncio.to_thread(key.open, sealed)).payload
    return key.open(sealed).payload


def dump_answer(answer: StoredAnswer) -> bytes:
    """Return an answer as it is sealed: one line of JSON, then the body as it is."""
    head = {"status": answer.status, "media_type": answer.media_type, "headers": answer.headers}
    return orjson.dumps(head) + b"\n" + answer.body


def load_answer(stored: bytes) -> StoredAnswer:
    """Return what ``dump_answer`` was given."""
    line, _, body = stored.partition(b"\n")
    head = orjson.loads(line)
    headers = tuple((name, value) for name, value in head["headers"])
    return StoredAnswer(head["status"], head["media_type"], headers, body)
