"""The verdict cache: exact token ids in, read-outs out, never across organisations."""

import hmac
import secrets
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from gateway.verdict import Scores


@dataclass(frozen=True, slots=True)
class ReadOut:
    """What the head says at the end of one prompt."""

    scores: Scores
    domains: tuple[float, ...]


class VerdictCache:
    """The ``capacity`` most recently used read-outs. Keys are HMAC(organisation, release digest, exact token ids).

    The HMAC key is drawn at start, so that a memory dump tells nobody which prompts were judged. Safe for threads.
    """

    def __init__(self, release_digest: str, capacity: int) -> None:
        self._key = secrets.token_bytes(32)
        self._release = release_digest.encode()
        self._capacity = capacity
        self._entries: OrderedDict[bytes, ReadOut] = OrderedDict()
        self._lock = Lock()

    def key(self, organization: str, ids: Sequence[int]) -> bytes:
        """Return the look-up key of one prompt."""
        name = organization.encode()
        parts = b"%d:%s%d:%s" % (len(name), name, len(self._release), self._release)
        return hmac.digest(self._key, parts + array("i", ids).tobytes(), "sha256")

    def get(self, key: bytes) -> ReadOut | None:
        """Return the read-out, or None when the prompt was not judged lately."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, value: ReadOut) -> None:
        """Keep a read-out; the least recently used one leaves."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
