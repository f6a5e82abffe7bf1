"""The joint stage: the trunk and both heads learn verdicts, domains, rationales and replies together."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback

from gateway.parts import Conversation, Message
from gateway.safety.prompt import Vocabulary, rationale_opening, render, task_prompt
from gateway.safety.template import END, END_OF_TEXT, SPECIAL_TOKENS
from training import teacher
from training.config import Config, Mixture
from training.data import open_text, read_rows
from training.examples import DOMAINS, LABELS, Example, conversation_of, domain_target, with_tools
from training.language import RatedTrainer, arguments, last_checkpoint
from training.losses import IGNORED, domain_loss, language_loss, verdict_loss
from training.model import TwoHeadedModel
from training.tokenizer import special_ids
from training.vectors import WordVectors

Row = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One training row: a labelled example with its soft target, an unlabelled one, or a Task dialogue."""

    example: Example | None
    target: NDArray[np.float32] | None
    dialogue: tuple[Conversation, str] | None
    length: int
    share: float
    """Expected uses an epoch."""


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Return the renderer's view of a Hugging Face tokeniser."""
    return Vocabulary(lambda text: tokenizer.encode(text).ids, special_ids(tokenizer))


@dataclass(frozen=True)
class Guesses:
    """What the word-statistics teacher says: out of fold about labelled rows, plainly about unlabelled ones."""

    labelled: NDArray[np.float32]
    unlabelled: NDArray[np.float32]


def ask_teacher(config: Config, vectors: WordVectors | None, training: Sequence[Example]) -> Guesses:
    """Return the teacher's probabilities, from the run folder when it was asked before."""
    path = config.run / "teacher.npz"
    if not path.exists():
        everything = teacher.fit_teacher(training, vectors)
        asked = [conversation for conversation, _ in _unlabelled(config)]
        unlabelled = teacher.predict(everything, asked) if asked else np.zeros((0, 3), dtype=np.float32)
        np.savez(path, labelled=teacher.out_of_fold(training, vectors), unlabelled=unlabelled)
    with np.load(path) as saved:
        return Guesses(saved["labelled"], saved["unlabelled"])


def collect(config: Config, training: Sequence[Example], guesses: Guesses) -> list[Item]:
    """Mix labelled rows, unlabelled requests judged by the teacher, and Task dialogues."""
    settings = config.mixture
    items = []
    for example, guess in zip(training, guesses.labelled, strict=True):
        sharp = np.zeros(3, dtype=np.float32)
        sharp[LABELS.index(example.label)] = 1.0
        trust = settings.teacher_english if example.lang == "en" else settings.teacher
        target = (1 - trust) * sharp + trust * guess
        share = settings.gold if example.gold else settings.public
        share *= settings.english if example.lang == "en" else 1.0
        items.append(Item(example, target, None, len(teacher.plain_text(example.conversation)), share))
    for (conversation, lang), guess in zip(_unlabelled(config), guesses.unlabelled, strict=True):
        example = Example("", conversation, LABELS[int(guess.argmax())], None, "", lang, "", "chat", "plain", False)
        items.append(Item(example, guess, None, len(teacher.plain_text(conversation)), settings.unlabelled))
    for conversation, reply in _dialogues(config):
        items.append(Item(None, None, (conversation, reply), len(reply) + 40, settings.task))
    return items


def _unlabelled(config: Config) -> list[tuple[Conversation, str]]:
    rng = random.Random(config.seed)  # noqa: S311
    found: list[tuple[str, str]] = []
    for name in ("hh_rlhf_harmless_test_first_turn", "jcm_ja_moral", "ja_ordinary_requests", "clinc150_full"):
        path = config.data / "train" / f"{name}.jsonl"
        rows = [(r["text"], r["lang"]) for r in read_rows(path)] if path.exists() else []
        found += rng.sample(rows, min(2000, len(rows)))
    for name, lang in (("docs_howto_faq_ja", "ja"), ("docs_howto_faq_en", "en"), ("dolly_subset_en", "en")):
        path = config.data / "lm" / f"pairs_{name}.jsonl.gz"
        prompts = [(t[0], lang) for t in open_text(path)] if path.exists() else []
        found += rng.sample(prompts, min(1200, len(prompts)))
    return [(Conversation((Message("user", text, "/messages/0"),)), lang) for text, lang in found if len(text) < 600]


def _dialogues(config: Config) -> Iterator[tuple[Conversation, str]]:
    for path in (config.data / "authored" / "task.jsonl", *sorted(config.own_data.glob("task*.jsonl"))):
        if path.exists():
            for row in read_rows(path):
                *before, reply = row["messages"]
                if reply.get("content"):
                    yield conversation_of(before, row["id"]), reply["content"]
    for name in ("human_instructions_en", "dolly_subset_en", "docs_howto_faq_ja", "docs_howto_faq_en"):
        path = config.data / "lm" / f"pairs_{name}.jsonl.gz"
        for turns in open_text(path) if path.exists() else ():
            if len(turns[1].encode()) < 700:
                yield Conversation((Message("user", turns[0], "/messages/0"),)), turns[1]


class Rows(Dataset[Row]):
    """Renders an item afresh at each use: sub-word dropout, dropped words, tool definitions."""

    def __init__(self, items: Sequence[Item], tokenizer: Tokenizer, settings: Mixture, seed: int) -> None:
        self.items = items
        self.rng = random.Random(seed)  # noqa: S311
        self.settings = settings
        self.window = settings.window
        self.vocabulary = vocabulary_of(tokenizer)
        noisy = Tokenizer.from_str(tokenizer.to_str())
        noisy.encode_special_tokens = True
        noisy.model.dropout = self.settings.subword_dropout
        self.noisy = vocabulary_of(noisy)
        self.end = self.vocabulary.special[END]
        self.filler = self.vocabulary.special[END_OF_TEXT]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Row:
        item = self.items[index]
        if item.dialogue is not None:
            prompt = list(task_prompt(item.dialogue[0], self.vocabulary))[-self.window // 2 :]
            reply = [*self.vocabulary.encode(item.dialogue[1]), self.end][: self.window - len(prompt)]
            return {"ids": prompt + reply, "labels": [IGNORED] * len(prompt) + reply}
        if item.example is None:
            raise ValueError("an item is an example or a dialogue")
        example = item.example
        if self.rng.random() < self.settings.tool_definitions:
            example = with_tools(example, self.rng)
        vocabulary = self.noisy if self.rng.random() < 0.5 else self.vocabulary
        prompt = list(render(example.conversation, vocabulary, window=10**6, last_only=True)[-1].ids)
        if len(prompt) > self.window:
            prompt = prompt[: self.window // 2] + prompt[-self.window // 2 :]
        dropped = [
            self.filler if t >= len(SPECIAL_TOKENS) and self.rng.random() < self.settings.word_dropout else t
            for t in prompt
        ]
        ids = dropped + list(self.vocabulary.invocation)
        read_at = len(ids) - 1
        labels = [t if self.rng.random() < self.settings.prompt_language else IGNORED for t in prompt]
        labels += [IGNORED] * (len(ids) - len(prompt))
        if example.gold and self.rng.random() < self.settings.rationales:
            opening = list(rationale_opening(example.label, example.domain, self.vocabulary))
            rationale = [*self.vocabulary.encode(example.rationale), self.end]
            ids += opening + rationale
            labels += [IGNORED] * len(opening) + rationale
        return {
            "ids": ids,
            "labels": labels,
            "read_at": read_at,
            "prompt": len(prompt),
            "target": item.target,
            "domains": domain_target(example),
            "known": float(example.gold or example.domain is not None),
        }


class TokenBudget(Sampler[list[int]]):
    """Batches of similar length with at most ``budget`` characters' worth of padding and text, redrawn each epoch."""

    def __init__(self, items: Sequence[Item], budget: int, seed: int) -> None:
        self.items = items
        self.budget = budget
        self.rng = random.Random(seed)  # noqa: S311

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            drawn = [
                i
                for i, item in enumerate(self.items)
                for _ in range(int(item.share) + (self.rng.random() < item.share % 1))
            ]
            drawn.sort(key=lambda i: self._cost(i) + self.rng.random() * 12)
            batches: list[list[int]] = [[]]
            for i in drawn:
                if (len(batches[-1]) + 1) * self._cost(i) > self.budget and batches[-1]:
                    batches.append([])
                batches[-1].append(i)
            self.rng.shuffle(batches)
            yield from batches

    def _cost(self, index: int) -> int:
        item = self.items[index]
        if item.example is None:
            return 40 + item.length // 2
        japanese = item.example.lang == "ja"
        return min(420, 20 + int(item.length / (1.6 if japanese else 3.5)) + (30 if item.example.gold else 0))


def pad(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Collate rows; Task dialogues have no read-out and carry ``judged`` 0."""
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row["ids"])
        ids[i, :n] = torch.tensor(row["ids"])
        mask[i, :n] = 1
        labels[i, :n] = torch.tensor(row["labels"])
    third = [1 / 3] * 3
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "read_at": torch.tensor([row.get("read_at", 0) for row in rows]),
        "prompt": torch.tensor([row.get("prompt", 1) for row in rows]),
        "judged": torch.tensor([float("target" in row) for row in rows]),
        "target": torch.tensor(np.array([row.get("target", third) for row in rows]), dtype=torch.float32),
        "domains": torch.tensor([row.get("domains", [0.0] * len(DOMAINS)) for row in rows]),
        "known": torch.tensor([row.get("known", 0.0) for row in rows]),
    }


class JointTrainer(RatedTrainer):
    """Trainer whose loss is verdict + domains + language, with batches by token budget."""

    def __init__(self, config: Config, items: Sequence[Item], tokenizer: Tokenizer, **extra: Any) -> None:
        rows = Rows(items, tokenizer, config.mixture, config.seed)
        super().__init__(config.joint, train_dataset=rows, data_collator=pad, **extra)
        self.items = items
        self.settings = config.mixture
        self.seed = config.seed
        self.candidates = config.candidates

    def get_train_dataloader(self) -> DataLoader[Row]:
        """Return batches of similar length."""
        sampler = TokenBudget(self.items, self.settings.token_budget, self.seed)
        return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=pad)

    def compute_loss(
        self, model: TwoHeadedModel, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor:
        """Return the weighted sum of the losses."""
        settings = self.settings
        states, read = model.read(inputs["input_ids"], inputs["attention_mask"], inputs["read_at"])
        judged = inputs["judged"].bool()
        loss = settings.language * language_loss(states, inputs["labels"], model.lm_head.weight, self.candidates)
        if bool(judged.any()):
            read = nn.functional.dropout(read[judged], settings.head_dropout, model.training)
            loss = loss + verdict_loss(model.verdict_head(read), inputs["target"][judged])
            domains = domain_loss(model.domain_head(read), inputs["domains"][judged], inputs["known"][judged])
            loss = loss + settings.domains * domains
            pooled = model.pooled_head(_mean(states[judged], inputs["prompt"][judged]))
            loss = loss + settings.pooled * verdict_loss(pooled, inputs["target"][judged])
        return loss


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean (batch, width) of the first ``lengths`` (batch,) of ``states`` (batch, tokens, width)."""
    inside = torch.arange(states.shape[1])[None, :] < lengths[:, None]
    return (states * inside[:, :, None]).sum(1) / lengths[:, None]


class Average(TrainerCallback):  # type: ignore[misc]
    """Exponential moving average of the weights (Polyak averaging); the average is what is released."""

    def __init__(self, model: TwoHeadedModel, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

    def on_step_end(self, args: Any, state: Any, control: Any, model: TwoHeadedModel, **_: Any) -> None:
        """Move the average towards the new weights, faster at the beginning."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, p in model.named_parameters():
            self.shadow[name].lerp_(p.detach(), 1 - decay)

    def apply(self, model: TwoHeadedModel) -> None:
        """Put the average into the model."""
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(self.shadow[name])


def add_dropout(model: TwoHeadedModel, rate: float) -> list[RemovableHandle]:
    """Drop outputs of the embedding and of every attention and feed-forward block while training."""

    def hook(module: nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (nn.functional.dropout(output[0], rate, module.training), *output[1:])
        return nn.functional.dropout(output, rate, module.training)

    blocks = [block for layer in model.model.layers for block in (layer.self_attn, layer.mlp)]
    return [block.register_forward_hook(hook) for block in (model.model.embed_tokens, *blocks)]


def train_jointly(config: Config, model: TwoHeadedModel, tokenizer: Tokenizer, items: Sequence[Item]) -> TwoHeadedModel:
    """Run the stage on ``model`` and return it with averaged weights; resumes an interrupted run.

    The average itself restarts with a resumed run, which a long rest of the stage makes up for.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    folder = config.run / "joint"
    hooks = add_dropout(model, config.mixture.dropout)
    average = Average(model, config.mixture.average)
    trainer = JointTrainer(
        config,
        items,
        tokenizer,
        model=model,
        args=arguments(config.joint, folder, config.seed, remove_unused_columns=False),
        callbacks=[average],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    average.apply(model)
    for hook in hooks:
        hook.remove()
    (config.run / "joint.json").write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")
    model.eval()
    return model
