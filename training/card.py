"""The model card of a release grown here."""

from collections.abc import Mapping
from typing import Any

from training.config import Config
from training.examples import PUBLIC_CAPS
from training.vectors import SOURCE


def model_card(config: Config, settings: Mapping[str, Any], table: str) -> str:
    """Return the card as Markdown."""
    shape = config.trunk
    source = f" {SOURCE}" if config.word_vectors else ""
    return f"""# {config.name}

A Safe Operator Transformer: a Qwen3-architecture decoder of {shape.layers} layers and width {shape.hidden_size} with a
bilingual (English, Japanese) byte-level BPE of {shape.vocab_size} tokens, grown from scratch, and two heads on it. The Task
head is the language model; the Safety head reads ALLOW, REFUSE or ESCALATE and a domain from the hidden state of the last
invocation token. Quantised to {settings["quantisation"]}; the head stays in full precision.

## What it is for
Judging requests, proposed tool calls and tool results that reach an organisation's agent, on a CPU, with a policy and
people behind it. It is the smallest member of the family. Its Task head writes short, often wrong text: it proves the
plumbing of a fresh install and is no assistant.

## How it was made
Token embeddings from co-occurrence counts{_vectors(config)}, {config.language.steps} steps of language modelling,
{config.joint.steps} steps of joint training on {settings["rows"]} labelled rows (targets mixed with out-of-fold word
statistics: {config.mixture.teacher_english:.0%} in English, {config.mixture.teacher:.0%} elsewhere), weight averaging.
Temperature {settings["temperature"]:.3f} and thresholds (refuse
{settings["thresholds"]["refuse"]}, escalate {settings["thresholds"]["escalate"]}) come from a tenth of the
hand-labelled rows that no weight was trained on. Seed {config.seed}; data {settings["data"]}.

## How good it is
Held-out rows by the same authors as the training rows (`dev.jsonl`), `so8t judge`. "Word statistics" is TF-IDF (word
1-2-grams, character 1-4-grams) with logistic regression, trained on the same rows.

{table}

dangerous-allow: REFUSE or ESCALATE judged ALLOW. over-stop: ALLOW judged otherwise.

## What it is bad at
Rows of other authors and other kinds of request than the training rows; long texts (it reads windows of
{config.mixture.window} tokens); languages other than English and Japanese; anything that needs knowledge of the world; the
wording of rationales, which are untrusted text. It reads no images, audio or files. A person who tries will get past it:
use it with tool contracts and reviewers, never alone.

## Data
Written for this project: the authored rows and `training/data`. Public sets, capped per source, under licences that allow
a model to ship: {", ".join(sorted(PUBLIC_CAPS))}, and open text and instruction pairs (CC-BY, CC-BY-SA, MIT, Apache-2.0,
public domain: Kyoto Wikipedia corpus by NICT, JaQuAD, JGLUE, Schema-Guided Dialogue, RealPersonaChat, Tanaka corpus, Dolly,
Microsoft documentation, GitLab, Sourcegraph, 18F, GSA, GOV.UK and PagerDuty handbooks, AMI, QMSum, ASDC). No benchmark of
`dev/` was trained on.{source}
"""


def _vectors(config: Config) -> str:
    return " and English word vectors" if config.word_vectors else ""
