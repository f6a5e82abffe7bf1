"""Evaluation: the shipped release against held-out rows, beside word statistics trained on the same rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gateway.safety.judging import Job, Judging
from gateway.safety.release import open_release
from gateway.verdict import Label
from training import teacher
from training.examples import LABELS, Example
from training.metrics import dangerous_allow, macro_f1, over_stop


@dataclass(frozen=True)
class Line:
    """One line of a report: a judge on one language."""

    judge: str
    lang: str
    rows: int
    macro_f1: float
    dangerous_allow: float
    over_stop: float
    over_stop_near_miss: float
    domain_right: float | None
    """Share of true stops judged as stops whose domain is right; None for a judge without domains."""


@dataclass(frozen=True)
class Judged:
    """A judge's answers to a list of examples."""

    scores: NDArray[np.float64]
    labels: list[Label]
    domains: list[str | None]


def judge_examples(folder: Path, examples: Sequence[Example], *, threads: int) -> Judged:
    """Judge every example with a release, in llama.cpp, as ``so8t judge`` does."""
    judging = Judging(open_release(folder), threads=threads, cells=12288, cache_size=1)
    verdicts = []
    for start in tqdm(range(0, len(examples), 32), desc="judging", unit="batch"):
        jobs: list[Job] = [
            judging.prepare(i, "evaluation", e.conversation, last_only=True, rationale=False)
            for i, e in enumerate(examples[start : start + 32])
        ]
        judging.read(jobs)
        verdicts += [judging.verdict(job)[0] for job in jobs]
    judging.trunk.close()
    scores = np.array([[v.scores.allow, v.scores.refuse, v.scores.escalate] for v in verdicts], dtype=np.float64)
    return Judged(scores, [v.label for v in verdicts], [v.domain for v in verdicts])


def judge_by_words(training: Sequence[Example], examples: Sequence[Example]) -> Judged:
    """Judge every example with word statistics trained on ``training``; the likeliest label is taken."""
    scores = teacher.predict(teacher.fit_baseline(training), [e.conversation for e in examples])
    found = [LABELS[i] for i in scores.argmax(axis=1)]
    return Judged(scores.astype(np.float64), found, [None] * len(examples))


def report(name: str, examples: Sequence[Example], judged: Judged) -> list[Line]:
    """Return one line a language."""
    lines = []
    for lang in sorted({e.lang for e in examples}):
        rows = [i for i, e in enumerate(examples) if e.lang == lang]
        gold = [examples[i].label for i in rows]
        found = [judged.labels[i] for i in rows]
        near = [i for i in rows if examples[i].difficulty == "near_miss"]
        stops = [i for i in rows if examples[i].label is not Label.ALLOW and judged.labels[i] is not Label.ALLOW]
        named = [i for i in stops if judged.domains[i] is not None]
        lines.append(
            Line(
                judge=name,
                lang=lang,
                rows=len(rows),
                macro_f1=macro_f1(gold, found),
                dangerous_allow=dangerous_allow(gold, found),
                over_stop=over_stop(gold, found),
                over_stop_near_miss=over_stop([examples[i].label for i in near], [judged.labels[i] for i in near]),
                domain_right=sum(judged.domains[i] == examples[i].domain for i in named) / len(named)
                if named
                else None,
            )
        )
    return lines


def to_markdown(lines: Sequence[Line]) -> str:
    """Return the lines as a table."""
    head = (
        "| judge | language | rows | macro-F1 | dangerous-allow | over-stop | over-stop, near misses | domain right |"
    )
    rows = [head, "|---|---|--:|--:|--:|--:|--:|--:|"]
    for line in lines:
        domain = "" if line.domain_right is None else f"{line.domain_right:.3f}"
        rows.append(
            f"| {line.judge} | {line.lang} | {line.rows} | {line.macro_f1:.3f} | {line.dangerous_allow:.3f} "
            f"| {line.over_stop:.3f} | {line.over_stop_near_miss:.3f} | {domain} |"
        )
    return "\n".join(rows)


def to_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the lines as plain values."""
    return [asdict(line) for line in lines]
