"""Word statistics as a teacher: soft labels from TF-IDF and logistic regression, and the baseline of every report.

A small network grown from little text learns lexical cues slowly; soft targets hand them over (Hinton, Vinyals and
Dean, "Distilling the Knowledge in a Neural Network", 2015). A labelled row is judged by a fold that never saw it.
"""

from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from tqdm import tqdm

from gateway.parts import Conversation
from training.examples import LABELS, Example


def plain_text(conversation: Conversation) -> str:
    """Return what the word statistics see: roles, texts, and calls with their arguments."""
    lines = []
    for message in conversation.messages:
        lines.append(f"{message.role}: {message.text}")
        lines += [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join(lines)


def word_statistics() -> Pipeline:
    """Return the untrained classifier: word 1-2-grams and character 1-4-grams, balanced classes."""
    features = make_union(
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True, max_features=120_000),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, min_df=2, max_features=150_000),
    )
    return make_pipeline(features, LogisticRegression(C=5.0, max_iter=300, class_weight="balanced"))


def fit(examples: Sequence[Example]) -> Pipeline:
    """Train the classifier on these rows."""
    model = word_statistics()
    model.fit([plain_text(e.conversation) for e in examples], [LABELS.index(e.label) for e in examples])
    return model


def predict(model: Pipeline, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities (rows, 3) in the order of ``LABELS``."""
    return np.asarray(model.predict_proba(list(texts)), dtype=np.float32)


def out_of_fold(examples: Sequence[Example], folds: int = 4) -> NDArray[np.float32]:
    """Return (rows, 3): each row's probabilities by a model that was trained without its fold."""
    targets = np.zeros((len(examples), 3), dtype=np.float32)

    def judge(fold: int) -> NDArray[np.float32]:
        inside = [e for i, e in enumerate(examples) if i % folds != fold]
        return predict(fit(inside), [plain_text(e.conversation) for e in examples[fold::folds]])

    work = Parallel(n_jobs=2, return_as="generator")(delayed(judge)(fold) for fold in range(folds))
    for fold, guesses in enumerate(tqdm(work, desc="word statistics", unit="fold", total=folds)):
        targets[fold::folds] = guesses
    return targets
