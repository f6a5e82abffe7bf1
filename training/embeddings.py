"""Token embeddings from co-occurrence counts and word vectors, the starting point of a trunk grown on little compute.

Positive pointwise mutual information of tokens within a window, factorised by a truncated SVD (Levy and Goldberg,
"Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014; context smoothing of 0.75 from Levy, Goldberg
and Dagan, TACL 2015). It reads a corpus at counting speed, which gradient descent on a CPU cannot. Where word
vectors are given, a token that is a word takes its vector beside its counts, any other token what a ridge regression
from counts to vectors expects, and the whole is reduced to the trunk's width.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.utils.extmath import randomized_svd
from tokenizers import Tokenizer

from training.vectors import WordVectors

WINDOW = 5
SMOOTHING = 0.75
CONTEXTS = 16_384
"""Tokens that count as neighbours: the first ones of a byte-level BPE are the most frequent."""
VECTOR_SHARE = 1.0
"""Length of the word-vector block relative to that of the count block."""


def count_neighbours(ids: NDArray[np.int32], vocab_size: int) -> NDArray[np.float32]:
    """Return (vocab, contexts) distance-weighted co-occurrence counts within ``WINDOW`` tokens on either side."""
    contexts = min(vocab_size, CONTEXTS)
    counts = np.zeros(vocab_size * contexts, dtype=np.float32)
    chunk = 4_000_000
    for start in range(0, len(ids), chunk):
        part = ids[start : start + chunk + WINDOW].astype(np.int64)
        for distance in range(1, WINDOW + 1):
            for token, neighbour in ((part[:-distance], part[distance:]), (part[distance:], part[:-distance])):
                near = neighbour < contexts
                pairs, times = np.unique(token[near] * contexts + neighbour[near], return_counts=True)
                counts[pairs] += times.astype(np.float32) / distance
    return counts.reshape(vocab_size, contexts)


def embed(
    ids: NDArray[np.int32],
    tokenizer: Tokenizer,
    width: int,
    *,
    vectors: WordVectors | None,
    norm: float,
    seed: int,
) -> NDArray[np.float32]:
    """Return (vocab, width) embeddings whose rows have length ``norm``; a token never seen gets a random row."""
    vocab_size = tokenizer.get_vocab_size()
    counts = count_neighbours(ids, vocab_size)
    row, column = counts.sum(axis=1), counts.sum(axis=0)
    context = column**SMOOTHING
    context /= context.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        counts /= row[:, None]
        counts /= context[None, :]
        np.log(counts, out=counts)
    np.nan_to_num(counts, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    np.maximum(counts, 0.0, out=counts)
    u, s, _ = randomized_svd(counts, n_components=width, n_iter=3, random_state=seed)
    found = _unit(u * np.sqrt(s))
    if vectors is not None:
        found = _join(found, tokenizer, vectors, width, seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    found = found @ rotation
    unseen = np.linalg.norm(found, axis=1) < 1e-6
    found[unseen] = np.random.default_rng(seed).standard_normal((int(unseen.sum()), width))
    return np.asarray(_unit(found) * norm, dtype=np.float32)


def words_of_tokens(tokenizer: Tokenizer, vectors: WordVectors) -> dict[int, int]:
    """Return the word-vector row of each token that is a whole word.

    A token without a leading space counts only where the vocabulary has it with one, else it is most likely a suffix.
    """
    vocabulary = tokenizer.get_vocab()
    rows = {}
    for token, index in vocabulary.items():
        word = token.removeprefix("Ġ")
        if len(word) > 1 and word.lower() in vectors.index and f"Ġ{word}" in vocabulary:
            rows[index] = vectors.index[word.lower()]
    return rows


def _join(
    counted: NDArray[np.float64], tokenizer: Tokenizer, vectors: WordVectors, width: int, seed: int
) -> NDArray[np.float64]:
    rows = words_of_tokens(tokenizer, vectors)
    tokens = np.array(sorted(rows))
    known = _unit(vectors.matrix[[rows[t] for t in tokens]])
    seen = np.linalg.norm(counted[tokens], axis=1) > 0
    expected = Ridge(alpha=10.0).fit(counted[tokens[seen]], known[seen]).predict(counted)
    expected[tokens] = known
    expected[(np.linalg.norm(counted, axis=1) == 0) & ~np.isin(np.arange(len(counted)), tokens)] = 0.0
    u, s, _ = randomized_svd(
        np.hstack([counted, VECTOR_SHARE * expected]), n_components=width, n_iter=4, random_state=seed
    )
    return np.asarray(u * s)


def _unit(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), dtype=np.float64)
