"""The language-modelling stage: text into packed sequences, embeddings from counts, then next-token prediction."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import Trainer, TrainingArguments

from gateway.safety.template import END, END_OF_TEXT, START
from training.config import Config, Stage
from training.data import open_text, read_rows
from training.embeddings import embed
from training.losses import language_loss
from training.model import TwoHeadedModel, build_trunk
from training.tokenizer import special_ids
from training.vectors import WordVectors

OPEN_TEXT_SHARE = {"prose": 0.25, "pairs": 1.0}
"""Share of each kind of open text in the language-modelling stage."""


class Chat:
    """Turns texts and turns into token ids with the template's markers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        special = special_ids(tokenizer)
        self.end_of_text, self.start, self.end = special[END_OF_TEXT], special[START], special[END]

    def document(self, turns: tuple[str, ...]) -> list[int]:
        """Encode plain text (one element) or alternating user and assistant turns, closed by end-of-text."""
        if len(turns) == 1:
            return [*self.tokenizer.encode(turns[0]).ids, self.end_of_text]
        ids: list[int] = []
        for i, turn in enumerate(turns):
            role = "user\n" if i % 2 == 0 else "assistant\n"
            ids += [self.start, *self.tokenizer.encode(role).ids, *self.tokenizer.encode(turn).ids, self.end]
            ids += self.tokenizer.encode("\n").ids
        return [*ids, self.end_of_text]


def corpus(config: Config, *, share: dict[str, float], seed: int) -> Iterator[tuple[str, ...]]:
    """Yield documents of the open text in random order of files and rows, then the requests of ``train/``."""
    rng = random.Random(seed)  # noqa: S311
    documents: list[tuple[str, ...]] = []
    for path in sorted((config.data / "lm").glob("*.jsonl.gz")):
        rows = list(open_text(path))
        keep = share["prose" if path.name.startswith("prose") else "pairs"]
        documents += rng.sample(rows, int(len(rows) * keep))
    rng.shuffle(documents)
    yield from documents


def requests(config: Config) -> list[tuple[str, ...]]:
    """Return the requests and dialogues that the Safety and Task heads will meet, without their labels."""
    found: list[tuple[str, ...]] = []
    rng = random.Random(config.seed)  # noqa: S311
    for path in sorted((config.data / "train").glob("*.jsonl")):
        texts = [(row["text"], "") for row in read_rows(path)]
        found += rng.sample(texts, min(2700, len(texts)))
    for folder in (config.data / "authored", config.own_data):
        for path in sorted(folder.glob("*.jsonl")):
            if path.stem != "dev":
                found += [_turns(row) for row in read_rows(path)]
    return found


def _turns(row: dict[str, Any]) -> tuple[str, ...]:
    texts = []
    for message in row["messages"]:
        calls = message.get("tool_calls") or []
        texts.append((message.get("content") or "") + "".join(c["function"]["arguments"] for c in calls))
    return tuple(texts) if len(texts) > 1 else (texts[0], row.get("rationale", ""))


def tokens(chat: Chat, documents: Iterator[tuple[str, ...]], limit: int, what: str) -> NDArray[np.int32]:
    """Encode documents until ``limit`` tokens are reached."""
    out = np.empty(limit, dtype=np.int32)
    filled = 0
    with tqdm(total=limit, unit="token", desc=what) as bar:
        for document in documents:
            ids = chat.document(document)[: limit - filled]
            out[filled : filled + len(ids)] = ids
            filled += len(ids)
            bar.update(len(ids))
            if filled >= limit:
                break
    return out[:filled]


class Packed(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Consecutive sequences of equal length cut from one stream of tokens."""

    def __init__(self, stream: NDArray[np.int32], sequence: int) -> None:
        self.rows = torch.from_numpy(stream[: len(stream) // sequence * sequence].astype(np.int64)).view(-1, sequence)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


class RatedTrainer(Trainer):  # type: ignore[misc]
    """Trainer whose token embeddings learn at ``embedding_rate`` times the stage's rate.

    Adam moves a rare token as far in one step as a frequent one, away from what its counts and vector say.
    """

    def __init__(self, stage: Stage, **extra: Any) -> None:
        self.optimizer: torch.optim.Optimizer | None = None
        super().__init__(**extra)
        self.stage = stage

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        """Return AdamW over three groups: embeddings, matrices with decay, vectors without."""
        if self.optimizer is None:
            named = dict(self.model.named_parameters())
            table = named.pop("model.embed_tokens.weight")
            matrices = [p for p in named.values() if p.ndim > 1]
            others = [p for p in named.values() if p.ndim < 2]
            rate = self.stage.learning_rate
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": [table], "lr": rate * self.stage.embedding_rate, "weight_decay": 0.0},
                    {"params": matrices, "weight_decay": self.stage.weight_decay},
                    {"params": others, "weight_decay": 0.0},
                ],
                lr=rate,
                betas=(0.9, 0.98),
                fused=True,
            )
        return self.optimizer


class LanguageTrainer(RatedTrainer):
    """Next-token prediction over packed sequences."""

    def __init__(self, candidates: int, stage: Stage, **extra: Any) -> None:
        super().__init__(stage, **extra)
        self.candidates = candidates

    def compute_loss(
        self, model: TwoHeadedModel, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor:
        """Return the language loss, sampled over the vocabulary."""
        states = model.model(input_ids=inputs["input_ids"]).last_hidden_state
        return language_loss(states, inputs["labels"], model.lm_head.weight, self.candidates)


def arguments(stage: Stage, folder: Path, seed: int, **extra: Any) -> TrainingArguments:
    """Translate a stage into the Trainer's arguments: CPU or GPU, cosine decay, resumable."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        save_steps=stage.save_every,
        save_total_limit=1,
        logging_steps=20,
        report_to=[],
        seed=seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        **extra,
    )


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest training checkpoint in ``folder``, or None."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return str(found[-1]) if found else None


def grow_trunk(config: Config, tokenizer: Tokenizer, vectors: WordVectors | None, domains: int) -> TwoHeadedModel:
    """Run the stage and return the trunk; an interrupted run goes on where it stopped."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    folder = config.run / "language"
    chat = Chat(tokenizer)
    model = build_trunk(config.trunk, domains)
    table = config.run / "embeddings.npy"
    if not table.exists():
        everything = {"prose": 1.0, "pairs": 1.0}
        stream = tokens(chat, corpus(config, share=everything, seed=config.seed), config.corpus_tokens, "corpus")
        shape = config.trunk
        start = embed(stream, tokenizer, shape.hidden_size, vectors=vectors, norm=0.5, seed=config.seed)
        np.save(table, start)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.from_numpy(np.load(table)))
    budget = config.language.steps * config.language.batch_size * config.sequence
    mixed = [*requests(config)]
    for document in corpus(config, share=OPEN_TEXT_SHARE, seed=config.seed + 1):
        mixed.append(document)
        if len(mixed) > budget // 60:
            break
    random.Random(config.seed).shuffle(mixed)  # noqa: S311
    stream = tokens(chat, iter(mixed), budget, "language modelling")
    trainer = LanguageTrainer(
        config.candidates,
        config.language,
        model=model,
        args=arguments(config.language, folder, config.seed),
        train_dataset=Packed(stream, config.sequence),
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    return model
