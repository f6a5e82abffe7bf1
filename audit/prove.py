"""Proving one entry to an outsider, and checking such a proof offline."""

from collections.abc import Sequence
from pathlib import Path

from audit.entry import read_entry
from audit.errors import ProofError
from audit.merkle import inclusion_proof
from audit.note import Checkpoint, Verifier
from audit.proof import Proof
from audit.tiles import CHECKPOINT, WIDTH, TileReader


def prove(directory: Path, verifiers: Sequence[Verifier], index: int, *, origin: str | None = None) -> Proof:
    """Return the proof that entry ``index`` is in the published log, already verified.

    ProofError when the checkpoint does not cover it or anything does not hold.
    """
    try:
        note = (directory / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        raise ProofError(f"{directory / CHECKPOINT} is missing") from None
    checkpoint = Checkpoint.open(note, verifiers, origin)
    if not 0 <= index < checkpoint.size:
        raise ProofError(f"entry {index} is not published: the checkpoint covers {checkpoint.size} entries")
    reader = TileReader(directory, checkpoint.size)
    entry = reader.entries(index // WIDTH)[index % WIDTH]
    proof = Proof(entry, index, tuple(inclusion_proof(index, checkpoint.size, reader.node)), note)
    proof.verify(verifiers, origin)
    return proof


def verify_proof(data: bytes, verifiers: Sequence[Verifier], *, origin: str | None = None) -> tuple[Proof, Checkpoint]:
    """Return the proof in a tlog-proof file and its checkpoint; ProofError or FormatError when it does not hold."""
    proof = Proof.parse(data)
    return proof, proof.verify(verifiers, origin)


def find_published(directory: Path, size: int, entry_id: str) -> int | None:
    """Return the index of the entry with this id by reading the published bundles, newest first."""
    reader = TileReader(directory, size)
    for bundle in range((size + WIDTH - 1) // WIDTH - 1, -1, -1):
        for at, entry in enumerate(reader.entries(bundle)):
            if entry_id.encode() in entry and read_entry(entry).get("id") == entry_id:
                return bundle * WIDTH + at
    return None
