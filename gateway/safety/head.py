"""The Safety head: two linear layers on one hidden state, then calibrated probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.errors import ReleaseError
from gateway.safety.release import Release
from gateway.verdict import Label, Scores

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """Weights: verdict (3, width) in the order ALLOW, REFUSE, ESCALATE; domains (domains, width); their biases."""

    verdict: Floats
    verdict_bias: Floats
    domains: Floats
    domain_bias: Floats
    temperature: float
    names: tuple[tuple[Label, str], ...]

    def score(self, hidden: Floats) -> Scores:
        """Return calibrated probabilities for one hidden state (width,)."""
        logits = (self.verdict @ hidden + self.verdict_bias) / self.temperature
        odds = np.exp(logits - logits.max())
        allow, refuse, escalate = (odds / odds.sum()).tolist()
        return Scores(allow, refuse, escalate)

    def score_domains(self, hidden: Floats) -> tuple[float, ...]:
        """Return one score in [0, 1] for each of ``names``."""
        logits = self.domains @ hidden + self.domain_bias
        return tuple((1 / (1 + np.exp(-logits))).tolist())

    def domain_of(self, label: Label, scores: tuple[float, ...]) -> str | None:
        """Return the likeliest domain that belongs to ``label``, None for ALLOW."""
        own = [(score, name) for score, (of, name) in zip(scores, self.names, strict=True) if of is label]
        return max(own)[1] if own else None

    def by_name(self, scores: tuple[float, ...]) -> Mapping[str, float]:
        """Return the scores by domain name; a name that two labels share keeps its higher score."""
        named: dict[str, float] = {}
        for score, (_, name) in zip(scores, self.names, strict=True):
            named[name] = max(score, named.get(name, 0.0))
        return named


def load_head(release: Release) -> Head:
    """Read the head of a verified release.

    Raises:
        ReleaseError: an array is missing or its shape does not fit the release's domains.
    """
    try:
        raw = orjson.loads(Path(release.head).read_bytes())
        arrays = {name: np.asarray(raw[name], dtype=np.float32) for name in ("verdict", "domains")}
        biases = {name: np.asarray(raw[f"{name}_bias"], dtype=np.float32) for name in ("verdict", "domains")}
    except (KeyError, ValueError) as error:
        raise ReleaseError(f"{release.head}: {error!r}; export the release anew") from None
    width = arrays["verdict"].shape[-1]
    shapes = (arrays["verdict"].shape, arrays["domains"].shape)
    if shapes != ((3, width), (len(release.domains), width)):
        raise ReleaseError(f"{release.head}: shapes {shapes} do not fit the manifest; export the release anew")
    return Head(
        arrays["verdict"],
        biases["verdict"],
        arrays["domains"],
        biases["domains"],
        release.temperature,
        release.domains,
    )
