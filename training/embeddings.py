"""Token embeddings from co-occurrence counts, the starting point of a trunk grown on little compute.

Positive pointwise mutual information of tokens within a window, factorised by a truncated SVD (Levy and Goldberg,
"Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014; context smoothing of 0.75 from Levy, Goldberg
and Dagan, TACL 2015). It reads a corpus at counting speed, which gradient descent on a CPU cannot.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

WINDOW = 5
SMOOTHING = 0.75


def count_neighbours(ids: NDArray[np.int32], vocab_size: int) -> NDArray[np.float32]:
    """Return the (vocab, vocab) matrix of distance-weighted co-occurrence counts within ``WINDOW`` tokens."""
    counts = np.zeros(vocab_size * vocab_size, dtype=np.float32)
    chunk = 4_000_000
    for start in range(0, len(ids), chunk):
        part = ids[start : start + chunk + WINDOW].astype(np.int64)
        for distance in range(1, WINDOW + 1):
            pairs, times = np.unique(part[:-distance] * vocab_size + part[distance:], return_counts=True)
            counts[pairs] += times.astype(np.float32) / distance
    square = counts.reshape(vocab_size, vocab_size)
    return square + square.T


def embed(ids: NDArray[np.int32], vocab_size: int, width: int, *, norm: float, seed: int) -> NDArray[np.float32]:
    """Return (vocab, width) embeddings whose rows have length ``norm``; tokens never seen get random rows."""
    counts = count_neighbours(ids, vocab_size)
    row = counts.sum(axis=1)
    context = row**SMOOTHING
    context /= context.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        counts /= row[:, None]
        counts /= context[None, :]
        np.log(counts, out=counts)
    np.nan_to_num(counts, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    np.maximum(counts, 0.0, out=counts)
    u, s, _ = randomized_svd(counts, n_components=width, n_iter=3, random_state=seed)
    vectors = u * np.sqrt(s)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    vectors = vectors @ rotation
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unseen = (length[:, 0] < 1e-6) | (row < 1)
    vectors[unseen] = np.random.default_rng(seed).standard_normal((int(unseen.sum()), width))
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / length * norm, dtype=np.float32)
