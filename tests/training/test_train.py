"""A miniature grows from text to a release through the same code as the shipped one, and llama.cpp reads it alike."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gateway.safety.release import builtin_release, open_release
from gateway.safety.trunk import Trunk
from training.config import Config, Mixture, Stage, TrunkShape
from training.joint import vocabulary_of
from training.tokenizer import load_tokenizer
from training.train import read_model, run

AWKWARD = [
    "<|im_start|>user\n\n\n  x　全角 　 １２３ ①②",
    "\u200b\ufeff\U000e0041abc",
    "👨‍👩‍👧 🇯🇵 é e\u0301",
    "a\r\n\r\n b\t\tc  ",
    "DON'T don't ſ'S",
    "مرحبا עולם हिन्दी",
    "\x00\x01\x7f",
    "患者の投薬量を2.5mgに変更してください",
    "",
]
SUBJECTS = [
    "the invoice",
    "a patient record",
    "the contract",
    "the server log",
    "a payslip",
    "the visit",
    "a complaint",
]


def write_data(folder: Path) -> None:
    """Write a small data folder of the three kinds that a run reads."""
    for name in ("lm", "train", "authored", "own"):
        (folder / name).mkdir(parents=True)
    with gzip.open(folder / "lm" / "prose_small.jsonl.gz", "wt", encoding="utf-8") as file:
        for n in range(300):
            text = f"Note {n}: {SUBJECTS[n % 7]} was sent and then {SUBJECTS[n % 5]} was filed. 会議は{n}時です。"
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    with gzip.open(folder / "lm" / "pairs_small.jsonl.gz", "wt", encoding="utf-8") as file:
        for n in range(100):
            file.write(json.dumps({"prompt": f"Where is {SUBJECTS[n % 7]}?", "response": "In the archive."}) + "\n")
    kinds = [("ALLOW", None, "Show"), ("ESCALATE", "medical", "Decide on"), ("REFUSE", "evasion", "Secretly destroy")]
    for name, count in (("rows", 240), ("dev", 45)):
        with (folder / "authored" / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for n in range(count):
                verdict, domain, verb = kinds[n % 3]
                row = {
                    "id": f"{name}-{n}",
                    "lang": "en" if n % 2 else "ja",
                    "kind": "chat",
                    "messages": [{"role": "user", "content": f"{verb} {SUBJECTS[n % 7]} number {n}"}],
                    "verdict": verdict,
                    "domain": domain,
                    "difficulty": "plain",
                    "rationale": f"{verb} was asked.",
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    folder = tmp_path_factory.mktemp("miniature")
    write_data(folder / "data")
    config = Config(
        name="miniature",
        data=folder / "data",
        own_data=folder / "data" / "own",
        run=folder / "run",
        trunk=TrunkShape(vocab_size=320, layers=1, context=512),
        sequence=64,
        corpus_tokens=4000,
        language=Stage(steps=6, batch_size=4, learning_rate=1e-3, warmup=2, save_every=3),
        joint=Stage(steps=40, batch_size=1, learning_rate=2e-3, warmup=4, save_every=20),
        mixture=Mixture(token_budget=800),
    )
    target = folder / "release"
    run(config, target)
    return config, target


def test_the_release_verifies_and_carries_card_and_report(miniature: tuple[Config, Path]) -> None:
    _, target = miniature
    release = open_release(target)
    assert release.id == "miniature"
    lines = json.loads((target / "report.json").read_text())
    assert {line["judge"] for line in lines} == {"miniature", "word statistics"}
    assert "miniature" in (target / "MODEL_CARD.md").read_text()


def test_it_learns_what_is_easy(miniature: tuple[Config, Path]) -> None:
    _, target = miniature
    lines = json.loads((target / "report.json").read_text())
    own = [line["macro_f1"] for line in lines if line["judge"] == "miniature"]
    assert min(own) > 0.8


def test_llama_cpp_gives_the_hidden_states_of_transformers(miniature: tuple[Config, Path], tmp_path: Path) -> None:
    config, _ = miniature
    from training.export import quantise, write_trunk

    tokenizer = load_tokenizer(config.run / "tokenizer.json")
    model = read_model(config.run / "model")
    write_trunk(model, tokenizer, tmp_path / "full.gguf")
    quantise(tmp_path / "full.gguf", tmp_path / "f16.gguf", "F16")
    trunk = Trunk(tmp_path / "f16.gguf", threads=1, cells=1024)
    prompts = [
        tokenizer.encode(text).ids for text in ("Show the invoice number 3", "Show the contract", "会議は3時です")
    ]
    trunk.prefill([(n, ids[:-1]) for n, ids in enumerate(prompts)])
    read = trunk.advance([(n, len(ids) - 1, ids[-1]) for n, ids in enumerate(prompts)], hidden=True)
    trunk.close()
    for ids, hidden in zip(prompts, read, strict=True):
        with torch.no_grad():
            expected = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1].numpy()
        np.testing.assert_allclose(hidden, expected, atol=2e-2)


def test_the_ids_of_transformers_and_of_llama_cpp_are_equal(miniature: tuple[Config, Path]) -> None:
    config, target = miniature
    vocabulary = vocabulary_of(load_tokenizer(config.run / "tokenizer.json"))
    trunk = Trunk(open_release(target).trunk, threads=1, cells=512)
    for text in AWKWARD:
        assert trunk.encode(text) == vocabulary.encode(text), text
    assert trunk.vocabulary.special == vocabulary.special
    trunk.close()


def test_text_survives_the_tokeniser_of_the_shipped_release() -> None:
    trunk = Trunk(open_release(builtin_release()).trunk, threads=1, cells=512)
    for text in AWKWARD:
        assert trunk.decode_text(trunk.encode(text)).decode() == text
    trunk.close()


def test_a_finished_stage_is_not_repeated(miniature: tuple[Config, Path], tmp_path: Path) -> None:
    config, target = miniature
    before = (config.run / "joint.json").stat().st_mtime_ns
    run(replace(config), tmp_path / "again")
    assert (config.run / "joint.json").stat().st_mtime_ns == before
    assert (tmp_path / "again" / "head.json").read_bytes() == (target / "head.json").read_bytes()
