"""The tree: every public vector, and random trees against the definition."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofError
from audit.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    fold,
    hash_children,
    hash_leaf,
    inclusion_proof,
    range_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

VECTORS = Path(__file__).parent / "testdata" / "merkle"


def vectors(kind: str) -> list[Any]:
    content = json.loads((VECTORS / f"{kind}.json").read_bytes())
    return [pytest.param(vector, id=name) for name, vector in content.items()]


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def proof_of(vector: dict[str, Any]) -> list[bytes]:
    return [decode(each) for each in vector["proof"] or []]


def holds(vector: dict[str, Any], check: Any, *arguments: object) -> None:
    if vector["wantErr"]:
        with pytest.raises(ProofError):
            check(*arguments)
    else:
        check(*arguments)


def test_all_518_public_vectors_are_here() -> None:
    kinds = ("inclusion", "consistency", "subtreeinclusion", "subtreeconsistency")
    assert sum(len(vectors(kind)) for kind in kinds) == 518


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_an_inclusion_vector_is_judged_as_published(vector: dict[str, Any]) -> None:
    leaf_hash, root = decode(vector["leafHash"]), decode(vector["root"])
    holds(vector, verify_inclusion, vector["leafIdx"], vector["treeSize"], leaf_hash, proof_of(vector), root)


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_a_consistency_vector_is_judged_as_published(vector: dict[str, Any]) -> None:
    roots = decode(vector["root1"]), decode(vector["root2"])
    holds(vector, verify_consistency, vector["size1"], vector["size2"], *roots, proof_of(vector))


@pytest.mark.parametrize("vector", vectors("subtreeinclusion"))
def test_a_subtree_inclusion_vector_is_judged_as_published(vector: dict[str, Any]) -> None:
    leaf_hash, root = decode(vector["leafHash"]), decode(vector["root"])
    place = vector["leafIdx"], vector["start"], vector["end"]
    holds(vector, verify_subtree_inclusion, *place, leaf_hash, proof_of(vector), root)


@pytest.mark.parametrize("vector", vectors("subtreeconsistency"))
def test_a_subtree_consistency_vector_is_judged_as_published(vector: dict[str, Any]) -> None:
    roots = decode(vector["root1"]), decode(vector["root2"])
    place = vector["start"], vector["end"], vector["size"]
    holds(vector, verify_subtree_consistency, *place, *roots, proof_of(vector))


def definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return hash_leaf(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hash_children(definition(leaves[:split]), definition(leaves[split:]))


class Tree:
    def __init__(self, leaves: list[bytes]) -> None:
        self.hashes = [hash_leaf(leaf) for leaf in leaves]

    def node(self, level: int, index: int) -> bytes:
        row = self.hashes[index << level : (index + 1) << level]
        assert len(row) == 1 << level, "asked for a subtree outside the tree"
        return fold(row)


Leaves = st.lists(st.binary(max_size=8), max_size=80)


@given(Leaves, st.data())
def test_appending_in_any_pieces_gives_the_root_of_the_definition(leaves: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(leaves)))
    tree = Tree(leaves)
    compact = CompactRange().extend(tree.hashes[:cut])
    compact = CompactRange.from_bytes(cut, compact.to_bytes()).extend(tree.hashes[cut:])
    assert compact.size == len(leaves)
    assert compact.root == definition(leaves) == root_hash(len(leaves), tree.node)
    assert root_hash(cut, tree.node) == definition(leaves[:cut])


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=80), st.data())
def test_every_inclusion_proof_holds_and_only_for_its_leaf(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    tree, root = Tree(leaves), definition(leaves)
    proof = inclusion_proof(index, len(leaves), tree.node)
    verify_inclusion(index, len(leaves), tree.hashes[index], proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(index, len(leaves), hash_leaf(b"another leaf"), proof, root)
    if proof:
        wrong = data.draw(st.integers(0, len(proof) - 1))
        proof[wrong] = bytes([proof[wrong][0] ^ 1]) + proof[wrong][1:]
        with pytest.raises(ProofError):
            verify_inclusion(index, len(leaves), tree.hashes[index], proof, root)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=80), st.data())
def test_every_consistency_proof_holds_and_none_for_a_rewritten_past(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    tree = Tree(leaves)
    proof = consistency_proof(old, len(leaves), tree.node)
    verify_consistency(old, len(leaves), definition(leaves[:old]), definition(leaves), proof)
    rewritten = [b"rewritten", *leaves[1:]]
    with pytest.raises(ProofError):
        verify_consistency(old, len(leaves), definition(leaves[:old]), definition(rewritten), proof)


@given(st.integers(0, 6), st.integers(0, 80), st.data())
def test_a_subtree_of_the_tree_has_the_hash_of_its_leaves(level: int, size: int, data: st.DataObject) -> None:
    leaves = [bytes([at]) for at in range(size)]
    start = data.draw(st.integers(0, size >> level)) << level
    end = min(size, start + data.draw(st.integers(1, 1 << level)))
    if start < end:
        assert range_hash(start, end, Tree(leaves).node) == definition(leaves[start:end])


def test_proofs_are_refused_for_leaves_and_sizes_that_do_not_exist() -> None:
    tree = Tree([b"a", b"b"])
    with pytest.raises(ProofError):
        inclusion_proof(2, 2, tree.node)
    with pytest.raises(ProofError):
        consistency_proof(3, 2, tree.node)
    with pytest.raises(ProofError):
        CompactRange.from_bytes(3, bytes(32))
