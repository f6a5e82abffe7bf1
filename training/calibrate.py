"""Calibration of a release on rows that no weight was trained on: temperature, then the two thresholds.

Temperature scaling by maximum likelihood (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
Thresholds are those that maximise the mean over languages of macro-F1 minus ``DANGER`` times dangerous-allow.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from gateway.verdict import Label, Scores, Thresholds
from training.examples import LABELS, Example
from training.metrics import dangerous_allow, macro_f1

DANGER = 0.5
GRID = np.arange(0.2, 0.81, 0.025)


def fit_temperature(scores: NDArray[np.float64], examples: Sequence[Example]) -> float:
    """Return the temperature that makes uncalibrated probabilities (rows, 3) likeliest."""
    logits = np.log(np.clip(scores, 1e-9, 1.0))
    gold = np.array([LABELS.index(e.label) for e in examples])

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        z = z - z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(gold)), gold]))

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def apply_temperature(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities (rows, 3) at ``temperature``."""
    powered = np.clip(scores, 1e-9, 1.0) ** (1 / temperature)
    return np.asarray(powered / powered.sum(axis=1, keepdims=True))


def fit_thresholds(scores: NDArray[np.float64], examples: Sequence[Example]) -> Thresholds:
    """Return the thresholds for calibrated probabilities (rows, 3)."""
    best = (-np.inf, Thresholds(0.5, 0.5))
    for refuse in GRID:
        for escalate in GRID:
            thresholds = Thresholds(round(float(refuse), 3), round(float(escalate), 3))
            best = max(best, (_value(labels(scores, thresholds), examples), thresholds), key=lambda pair: pair[0])
    return best[1]


def labels(scores: NDArray[np.float64], thresholds: Thresholds) -> list[Label]:
    """Return the label of each row of probabilities in the order ALLOW, REFUSE, ESCALATE."""
    return [thresholds.label(Scores(*row)) for row in scores.tolist()]


def _value(found: Sequence[Label], examples: Sequence[Example]) -> float:
    values = []
    for lang in sorted({e.lang for e in examples}):
        rows = [i for i, e in enumerate(examples) if e.lang == lang]
        gold = [examples[i].label for i in rows]
        guess = [found[i] for i in rows]
        values.append(macro_f1(gold, guess) - DANGER * dangerous_allow(gold, guess))
    return float(np.mean(values))
