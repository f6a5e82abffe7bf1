"""Labelled rows become examples: the prompt that the gateway would render, a target for each head, and a rationale.

Targets are probabilities in the order of ``LABELS``; the domain target is multi-label over ``DOMAINS``.
"""

import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.parts import Conversation, Message, ToolCall, ToolDefinition
from gateway.safety.domains import ESCALATE_DOMAINS, REFUSE_DOMAINS
from gateway.verdict import Label
from training.data import DataError, read_rows

LABELS = (Label.ALLOW, Label.REFUSE, Label.ESCALATE)
DOMAINS = tuple(("ESCALATE", d) for d in ESCALATE_DOMAINS) + tuple(("REFUSE", d) for d in REFUSE_DOMAINS)

PUBLIC_CAPS = {
    "banking77": 500,
    "bitext_customer_service": 400,
    "clinc150_full": 900,
    "inthewild_jailbreaks": 350,
    "ja_ordinary_requests": 2200,
    "lawqa_jp_140": 125,
    "medquad_info_questions": 400,
    "meqsum_chq_1000": 500,
    "nlupp_banking_hotels": 300,
    "presidio_pii_templates": 150,
    "privacylens_seed_norms": 120,
    "red_instruct_harmful": 1800,
    "self_instruct_seed_and_user252": 427,
    "sgd_user_turns": 500,
    "tdc2023_100": 54,
    "toolbench_queries": 500,
    "workbench_office_tasks": 500,
}
"""Rows of each public set at most, so that no source's style stands for a label."""

PUBLIC_DOMAINS = {"finance": "finance", "medical": "medical", "medical_info": "medical", "legal_info": "legal"}


@dataclass(frozen=True)
class Example:
    """One row: what is judged, the label, the domain (None when unknown), and where it comes from."""

    id: str
    conversation: Conversation
    label: Label
    domain: str | None
    rationale: str
    lang: str
    source: str
    kind: str
    difficulty: str
    gold: bool
    """True for rows that a person labelled one by one; False for a mapping of a source's categories."""


def conversation_of(messages: list[dict[str, Any]], where: str) -> Conversation:
    """Build the conversation of a labelled row.

    Raises:
        DataError: a role or tool call that the format does not know.
    """
    built = []
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in ("system", "user", "assistant", "tool"):
            raise DataError(f"{where}: messages[{index}].role: {role!r} is none of system, user, assistant, tool")
        pointer = f"/messages/{index}"
        calls = tuple(
            ToolCall(call["function"]["name"], call["function"]["arguments"], f"{pointer}/tool_calls/{n}")
            for n, call in enumerate(message.get("tool_calls") or [])
        )
        built.append(Message(role, message.get("content") or "", pointer, calls))
    return Conversation(tuple(built))


def authored(folder: Path, *, held_out: bool = False) -> Iterator[Example]:
    """Yield the labelled rows of a folder; ``dev.jsonl`` only when ``held_out`` is asked for."""
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem == "task" or (path.stem == "dev") != held_out:
            continue
        for number, row in enumerate(read_rows(path), 1):
            where = f"{path}:{number}"
            try:
                yield Example(
                    id=row["id"],
                    conversation=conversation_of(row["messages"], where),
                    label=Label(row["verdict"]),
                    domain=row["domain"],
                    rationale=row["rationale"],
                    lang=row["lang"],
                    source=path.stem,
                    kind=row["kind"],
                    difficulty=row["difficulty"],
                    gold=True,
                )
            except KeyError as error:
                raise DataError(f"{where}: the field {error} is missing") from None
            except ValueError as error:
                raise DataError(f"{where}: verdict: {error}") from None


def public(folder: Path, seed: int) -> Iterator[Example]:
    """Yield rows of the public training sets whose mapping is trusted, each source capped by ``PUBLIC_CAPS``."""
    for path in sorted(folder.glob("*.jsonl")):
        cap = PUBLIC_CAPS.get(path.stem)
        if cap is None:
            continue
        rows = [r for r in read_rows(path) if r["suggest"] != "UNLABELED" and r["conf"] != "low" and r["text"].strip()]
        rng = random.Random(seed)  # noqa: S311
        for row in rng.sample(rows, min(cap, len(rows))):
            yield Example(
                id=f"{path.stem}-{zlib.crc32(row['text'].encode()):08x}",
                conversation=Conversation((Message("user", row["text"], "/messages/0"),)),
                label=Label(row["suggest"]),
                domain=_public_domain(path.stem, row),
                rationale="",
                lang=row["lang"],
                source=path.stem,
                kind="chat",
                difficulty="plain",
                gold=False,
            )


def _public_domain(source: str, row: dict[str, Any]) -> str | None:
    if source == "inthewild_jailbreaks":
        return "injection"
    if source in ("presidio_pii_templates", "privacylens_seed_norms") and row["suggest"] == "ESCALATE":
        return "pii"
    return PUBLIC_DOMAINS.get(row["domain"])


def is_calibration(example: Example) -> bool:
    """Tell whether a row belongs to the tenth that no weight is trained on and that calibration uses."""
    return example.gold and zlib.crc32(example.id.encode()) % 10 == 0


def with_tools(example: Example, rng: random.Random) -> Example:
    """Put the definition of the called tool (and of another one) in front, as an agent's request carries it."""
    calls = [call for message in example.conversation.messages for call in message.tool_calls]
    if not calls:
        return example
    tools = tuple(_definition(call) for call in calls)
    conversation = replace(example.conversation, tools=tuple(rng.sample(tools, len(tools))))
    return replace(example, conversation=conversation)


def _definition(call: ToolCall) -> ToolDefinition:
    try:
        names = json.loads(call.arguments)
    except ValueError:
        names = {}
    kinds = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    properties = {key: {"type": kinds.get(type(value), "string")} for key, value in names.items()}
    words = call.name.replace("_", " ").replace(".", " ")
    schema = json.dumps({"type": "object", "properties": properties}, ensure_ascii=False)
    return ToolDefinition(call.name, f"{words}\n{schema}", "/tools/0")


def domain_target(example: Example) -> list[float]:
    """Return the multi-label target; ALLOW rows mark the field that they touch under either label."""
    target = [0.0] * len(DOMAINS)
    for index, (label, name) in enumerate(DOMAINS):
        if name == example.domain and (
            label == example.label.value or (example.label is Label.ALLOW and name != "other")
        ):
            target[index] = 1.0
    return target


def load(data: Path, own: Path, seed: int) -> tuple[list[Example], list[Example]]:
    """Return (training, calibration) examples."""
    rows: Iterable[Example] = [*authored(data / "authored"), *authored(own), *public(data / "train", seed)]
    training: list[Example] = []
    calibration: list[Example] = []
    for row in rows:
        (calibration if is_calibration(row) else training).append(row)
    return training, calibration
