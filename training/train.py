"""Grow a release from data: ``python -m training.train training/configs/nano.yaml``.

Stages: tokeniser, language modelling, joint training, export, calibration, evaluation. Each leaves its result in the
run folder; a run that was interrupted goes on where it stopped, and a finished stage is not repeated.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tokenizers import Tokenizer

from gateway.safety.release import builtin_release
from training.calibrate import apply_temperature, fit_temperature, fit_thresholds
from training.card import model_card
from training.config import Config, ConfigError, load_config
from training.data import open_text, read_rows
from training.evaluate import judge_by_words, judge_examples, report, to_json, to_markdown
from training.examples import DOMAINS, Example, authored, load
from training.export import seal, write_release
from training.joint import ask_teacher, collect, train_jointly
from training.language import grow_trunk
from training.model import TwoHeadedModel
from training.tokenizer import grow_tokenizer, load_tokenizer
from training.vectors import WordVectors, word_vectors

TEXT_BYTES_A_FILE = 700_000
REQUESTS_A_FILE = 3000


def texts_for_tokenizer(config: Config, vectors: WordVectors | None) -> Iterator[str]:
    """Yield a sample of every source, so that no large one decides the vocabulary, and the words that have a vector."""
    rng = random.Random(0)  # noqa: S311
    for path in sorted((config.data / "lm").glob("*.gz")):
        budget = TEXT_BYTES_A_FILE
        rows = list(open_text(path))
        rng.shuffle(rows)
        for row in rows:
            if budget <= 0:
                break
            text = "\n".join(row)
            budget -= len(text.encode())
            yield text
    for path in sorted((config.data / "train").glob("*.jsonl")):
        requests = list(read_rows(path))
        rng.shuffle(requests)
        yield from (row["text"] for row in requests[:REQUESTS_A_FILE])
    for path in sorted((config.data / "authored").glob("*.jsonl")):
        if path.stem == "dev":
            continue
        for labelled in read_rows(path):
            for message in labelled["messages"]:
                yield message.get("content") or ""
                for call in message.get("tool_calls") or []:
                    yield f"{call['function']['name']}\n{call['function']['arguments']}"
            yield labelled.get("rationale", "")
    if vectors is not None:
        words = " " + " ".join(vectors.frequent(config.vocabulary_words))
        yield from [words] * config.word_repeats


def tokenizer_stage(config: Config, vectors: WordVectors | None) -> Tokenizer:
    """Return the run's tokeniser, grown on first use."""
    path = config.run / "tokenizer.json"
    if not path.exists():
        tokenizer = grow_tokenizer(texts_for_tokenizer(config, vectors), config.trunk.vocab_size)
        if tokenizer.get_vocab_size() != config.trunk.vocab_size:
            raise ConfigError(
                f"trunk.vocab_size: the text gives only {tokenizer.get_vocab_size()} tokens: bring more or lower it"
            )
        tokenizer.save(str(path))
    return load_tokenizer(path)


def language_stage(config: Config, tokenizer: Tokenizer, vectors: WordVectors | None) -> TwoHeadedModel:
    """Return the run's trunk after language modelling."""
    folder = config.run / "trunk"
    if not folder.exists():
        grow_trunk(config, tokenizer, vectors, len(DOMAINS)).save_pretrained(folder)
    return read_model(folder)


def joint_stage(
    config: Config, tokenizer: Tokenizer, vectors: WordVectors | None, training: list[Example]
) -> TwoHeadedModel:
    """Return the run's model after joint training."""
    folder = config.run / "model"
    if not folder.exists():
        model = language_stage(config, tokenizer, vectors)
        guesses = ask_teacher(config, vectors, training)
        items = collect(config, training, guesses)
        train_jointly(config, model, tokenizer, items).save_pretrained(folder)
    return read_model(folder)


def read_model(folder: Path) -> TwoHeadedModel:
    """Read a saved model, in evaluation mode."""
    model: TwoHeadedModel = TwoHeadedModel.from_pretrained(folder)
    model.eval()
    return model


def data_digest(examples: list[Example]) -> str:
    """Return the SHA-256 over every row's content, independent of order."""
    rows = sorted(hashlib.sha256(repr(e).encode()).hexdigest() for e in examples)
    return "sha256:" + hashlib.sha256("".join(rows).encode()).hexdigest()


def run(config: Config, target: Path) -> None:
    """Run every stage and write the release to ``target``."""
    config.run.mkdir(parents=True, exist_ok=True)
    vectors = word_vectors(config.run) if config.word_vectors else None
    tokenizer = tokenizer_stage(config, vectors)
    training, calibration = load(config.data, config.own_data, config.seed)
    model = joint_stage(config, tokenizer, vectors, training)
    settings = {
        "id": config.name,
        "window": config.mixture.window,
        "data": data_digest(training),
        "rows": len(training),
        "seed": config.seed,
        "shape": asdict(config.trunk),
    }
    plain = {"temperature": 1.0, "thresholds": {"refuse": 0.5, "escalate": 0.5}}
    write_release(target, model, tokenizer, {**settings, **plain}, kind=config.quantisation)
    raw = judge_examples(target, calibration, threads=config.threads).scores
    temperature = fit_temperature(raw, calibration)
    thresholds = fit_thresholds(apply_temperature(raw, temperature), calibration)
    settings |= {"temperature": temperature, "thresholds": asdict(thresholds), "quantisation": config.quantisation}
    seal(target, settings)
    held_out = list(authored(config.data / "authored", held_out=True))
    lines = report(config.name, held_out, judge_examples(target, held_out, threads=config.threads))
    lines += report("word statistics", held_out, judge_by_words([*training, *calibration], held_out))
    (target / "MODEL_CARD.md").write_text(model_card(config, settings, to_markdown(lines)), encoding="utf-8")
    (target / "report.json").write_text(json.dumps(to_json(lines), indent=1) + "\n", encoding="utf-8")
    seal(target, settings)
    print(to_markdown(lines))


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--target", type=Path, default=builtin_release(), help="folder of the release")
    arguments = parser.parse_args()
    run(load_config(arguments.config), arguments.target)


if __name__ == "__main__":
    main()
