"""Word statistics: the baseline of every report, and with English word vectors the teacher that gives soft labels.

A small network grown from little text learns lexical cues slowly; soft targets hand them over (Hinton, Vinyals and
Dean, "Distilling the Knowledge in a Neural Network", 2015). A labelled row is judged by a fold that never saw it.
"""

from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from tqdm import tqdm

from gateway.parts import Conversation
from training.examples import LABELS, Example
from training.vectors import WordVectors

VECTOR_WEIGHT = 0.3
GOLD_WEIGHT = 1.5
PUBLIC_WEIGHT = 0.5


def plain_text(conversation: Conversation) -> str:
    """Return what the word statistics see: roles, texts, and calls with their arguments."""
    lines = []
    for message in conversation.messages:
        lines.append(f"{message.role}: {message.text}")
        lines += [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join(lines)


class VectorBlock(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What the English word vectors say about each text, as features."""

    def __init__(self, vectors: WordVectors) -> None:
        self.vectors = vectors

    def fit(self, texts: Sequence[str], labels: object = None) -> "VectorBlock":
        """Learn nothing."""
        return self

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Return (rows, features)."""
        return csr_matrix(VECTOR_WEIGHT * np.array([self.vectors.describe(text) for text in texts]))


def word_statistics(vectors: WordVectors | None) -> Pipeline:
    """Return the untrained classifier: word 1-2-grams, character 1-4-grams, word vectors if given; balanced classes."""
    features = make_union(
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True, max_features=120_000),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, min_df=2, max_features=150_000),
        *([VectorBlock(vectors)] if vectors is not None else []),
    )
    return make_pipeline(features, LogisticRegression(C=5.0, max_iter=300, class_weight="balanced"))


def fit_baseline(examples: Sequence[Example]) -> Pipeline:
    """Train the baseline: no vectors, every row alike."""
    return _fit(word_statistics(None), examples, None)


def fit_teacher(examples: Sequence[Example], vectors: WordVectors | None) -> Pipeline:
    """Train the teacher: with the vectors, and with less weight on rows that nobody labelled one by one."""
    weights = np.array([GOLD_WEIGHT if e.gold else PUBLIC_WEIGHT for e in examples])
    return _fit(word_statistics(vectors), examples, weights)


def _fit(model: Pipeline, examples: Sequence[Example], weights: NDArray[np.float64] | None) -> Pipeline:
    texts = [plain_text(e.conversation) for e in examples]
    model.fit(texts, [LABELS.index(e.label) for e in examples], logisticregression__sample_weight=weights)
    return model


def predict(model: Pipeline, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
    """Return probabilities (rows, 3) in the order of ``LABELS``."""
    return np.asarray(model.predict_proba([plain_text(c) for c in conversations]), dtype=np.float32)


def out_of_fold(examples: Sequence[Example], vectors: WordVectors | None, folds: int = 4) -> NDArray[np.float32]:
    """Return (rows, 3): each row's probabilities by a teacher that was trained without its fold."""
    targets = np.zeros((len(examples), 3), dtype=np.float32)

    def judge(fold: int) -> NDArray[np.float32]:
        inside = [e for i, e in enumerate(examples) if i % folds != fold]
        return predict(fit_teacher(inside, vectors), [e.conversation for e in examples[fold::folds]])

    work = Parallel(n_jobs=2, return_as="generator")(delayed(judge)(fold) for fold in range(folds))
    for fold, guesses in enumerate(tqdm(work, desc="word statistics", unit="fold", total=folds)):
        targets[fold::folds] = guesses
    return targets
