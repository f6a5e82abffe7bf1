"""C2SP tlog-proof (c2sp.org/tlog-proof): one text file that shows, offline, that an entry is in a log."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from audit.errors import FormatError
from audit.merkle import HASH_SIZE, hash_leaf, verify_inclusion
from audit.note import Checkpoint, Verifier, decode_base64, decode_decimal, encode_base64

HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry, its index, the inclusion proof, and the checkpoint that it leads to.

    The entry travels in the ``extra`` line, so that the file alone can be checked.
    """

    entry: bytes
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """Return the file."""
        lines = [HEADER, f"extra {encode_base64(self.entry)}", f"index {self.index}", *map(encode_base64, self.hashes)]
        return "\n".join([*lines, "", ""]).encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "Proof":
        """Return the proof in a file; FormatError when it is none or carries no entry."""
        head, separator, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise FormatError("the head of a proof must be ASCII") from None
        if not separator or len(lines) < 3 or lines[0] != HEADER:
            raise FormatError(f"a proof begins with `{HEADER}`")
        if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
            raise FormatError("a proof of ours has an `extra` line with the entry, then an `index` line")
        hashes = tuple(decode_base64(line) for line in lines[3:])
        if any(len(each) != HASH_SIZE for each in hashes):
            raise FormatError(f"a hash must have {HASH_SIZE} bytes")
        index = decode_decimal(lines[2].removeprefix("index "))
        return cls(decode_base64(lines[1].removeprefix("extra ")), index, hashes, checkpoint)

    def verify(self, verifiers: Iterable[Verifier], origin: str | None = None) -> Checkpoint:
        """Return the checkpoint that covers the entry; ProofError or FormatError when anything does not hold."""
        checkpoint = Checkpoint.open(self.checkpoint, verifiers, origin)
        verify_inclusion(self.index, checkpoint.size, hash_leaf(self.entry), self.hashes, checkpoint.root)
        return checkpoint
