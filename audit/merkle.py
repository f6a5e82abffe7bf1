"""RFC 6962 Merkle trees: hashes, roots and proofs.

A tree is read through ``Nodes``: a function from (level, index) to the hash of the perfect subtree over the leaves
``[index << level, (index + 1) << level)``. It is asked only for subtrees that lie wholly inside the tree.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from audit.errors import ProofError

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()

Nodes = Callable[[int, int], bytes]


def hash_leaf(data: bytes) -> bytes:
    """Return SHA-256(0x00 ‖ data) (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 ‖ left ‖ right) (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root of the perfect tree over ``hashes``, whose number is a power of two."""
    row = list(hashes)
    while len(row) > 1:
        row = [hash_children(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The roots of the perfect subtrees that a tree of ``size`` leaves consists of, largest first.

    Enough to append and to compute the root, at 32 bytes a set bit of ``size``.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def extend(self, leaf_hashes: Iterable[bytes]) -> "CompactRange":
        """Return the range after appending ``leaf_hashes``."""
        size, stack = self.size, list(self.hashes)
        for leaf_hash in leaf_hashes:
            node = leaf_hash
            bits = size
            while bits & 1:
                node = hash_children(stack.pop(), node)
                bits >>= 1
            stack.append(node)
            size += 1
        return CompactRange(size, tuple(stack))

    @property
    def root(self) -> bytes:
        """The Merkle tree hash."""
        if not self.hashes:
            return EMPTY_ROOT
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = hash_children(left, node)
        return node

    def to_bytes(self) -> bytes:
        """Return the hashes one after another, largest subtree first."""
        return b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "CompactRange":
        """Return the range of ``size`` leaves from ``to_bytes``; ProofError when the length cannot be right."""
        if size < 0 or len(data) != HASH_SIZE * size.bit_count():
            raise ProofError(f"a compact range of size {size} cannot have {len(data)} bytes")
        return cls(size, tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)))


def _perfect(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (level, index) of the perfect subtrees of ``[start, end)``, left to right; ``start`` is aligned."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def range_hash(start: int, end: int, nodes: Nodes) -> bytes:
    """Return MTH(D[start:end]) of a subtree: ``start`` is a multiple of the power of two not below its width."""
    return CompactRange(end - start, tuple(nodes(level, index) for level, index in _perfect(start, end))).root


def root_hash(size: int, nodes: Nodes) -> bytes:
    """Return the root of the tree of the first ``size`` leaves."""
    return range_hash(0, size, nodes)


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """Return PATH(index, D[size]) (RFC 6962, 2.1.1), leaf's sibling first."""
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of size {size}")
    proof, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_hash(middle, end, nodes))
            end = middle
        else:
            proof.append(range_hash(start, middle, nodes))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """Return PROOF(old, D[new]) (RFC 6962, 2.1.2); empty for equal sizes."""
    if not 0 < old <= new:
        raise ProofError(f"no consistency proof from size {old} to size {new}")
    proof, start, end, whole = [], 0, new, True
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_hash(middle, end, nodes))
            end = middle
        else:
            proof.append(range_hash(start, middle, nodes))
            start, whole = middle, False
    if not whole:
        proof.append(range_hash(start, end, nodes))
    return proof[::-1]


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless ``proof`` shows ``leaf_hash`` at ``index`` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of size {size}")
    _check_lengths(leaf_hash, root, *proof)
    node, at, last = leaf_hash, index, size - 1
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            node = hash_children(sibling, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = hash_children(node, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the inclusion proof is too short")
    if node != root:
        raise ProofError("the inclusion proof leads to another root")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofError unless ``proof`` shows that the tree of ``new`` leaves begins with that of ``old`` > 0."""
    if old < 1:
        raise ProofError("nothing can be shown about an empty tree")
    verify_subtree_consistency(0, old, new, old_root, new_root, proof)


def verify_subtree_inclusion(
    index: int, start: int, end: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise ProofError unless ``proof`` shows the leaf inside the subtree ``[start, end)``."""
    _check_subtree(start, end)
    verify_inclusion(index - start, end - start, leaf_hash, proof, root)


def verify_subtree_consistency(
    start: int, end: int, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ProofError unless ``proof`` shows that the subtree ``[start, end)`` is part of the tree of ``size`` leaves.

    With ``start`` 0 this is RFC 9162, 2.1.4.2; the general form is draft-ietf-plants-merkle-tree-certs, 4.4.3.
    An empty subtree belongs to every tree.
    """
    if end > size:
        raise ProofError(f"a tree of size {size} has no leaf {end - 1}")
    if start == end:
        if proof or subtree_root != EMPTY_ROOT:
            raise ProofError("an empty subtree has the empty root and an empty proof")
        return
    _check_subtree(start, end)
    _check_lengths(*proof)
    first, last, top = start, end - 1, size - 1
    while first != last and (last == top or last & 1):
        first, last, top = first >> 1, last >> 1, top >> 1
    hashes = list(proof)
    if first != last and not hashes:
        raise ProofError("the consistency proof is empty")
    seed = subtree_root if first == last else hashes.pop(0)
    inner = outer = seed
    for sibling in hashes:
        if top == 0:
            raise ProofError("the consistency proof is too long")
        if last & 1 or last == top:
            if first < last:
                inner = hash_children(sibling, inner)
            outer = hash_children(sibling, outer)
            while not last & 1:
                first, last, top = first >> 1, last >> 1, top >> 1
        else:
            outer = hash_children(outer, sibling)
        first, last, top = first >> 1, last >> 1, top >> 1
    if top:
        raise ProofError("the consistency proof is too short")
    if inner != subtree_root:
        raise ProofError("the consistency proof does not start from the older root")
    if outer != root:
        raise ProofError("the consistency proof leads to another root")


def _check_subtree(start: int, end: int) -> None:
    if not 0 <= start < end or start % (1 << (end - start - 1).bit_length()):
        raise ProofError(f"[{start}, {end}) is no subtree")


def _check_lengths(*hashes: bytes) -> None:
    if any(len(each) != HASH_SIZE for each in hashes):
        raise ProofError(f"a hash must have {HASH_SIZE} bytes")
