"""``so8t check`` and ``so8t judge``: the Safety head on one text, or on a file of chat bodies."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from uuid6 import uuid7

from gateway.decision import Decision
from gateway.errors import JudgeUnavailable, ReleaseError, RequestError, SettingsError
from gateway.parts import Conversation, Message
from gateway.policy import Facts, PolicyStore, decide
from gateway.safety.engine import EngineOptions, SafetyEngine
from gateway.safety.release import BUILTIN, builtin_release
from gateway.settings import load_settings
from gateway.verdict import Thresholds, Verdict
from gateway.wire import fields
from gateway.wire.chat import parse_request
from gateway.wire.strict import StrictJsonError, dumps, loads

UNDER_WAY: Final = 64
"""Lines judged at a time."""

ReleaseFlag = Annotated[str | None, typer.Option("--release", help="Release folder; default: the built-in one.")]
COLOURS: Final = {"ALLOW": "green", "ESCALATE": "yellow", "REFUSE": "red"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input file: what to judge, or why it cannot be."""

    id: Any
    conversation: Conversation | None
    error: str | None = None


def check(
    text: Annotated[str, typer.Argument(help="The text to judge, as a user's message.")],
    release: ReleaseFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Judge one text: label, domain, rationale, scores."""
    verdict = asyncio.run(_check(text, release))
    if as_json:
        typer.echo(orjson.dumps(_answer(None, verdict)).decode())
        return
    console = Console()
    console.print(Text(verdict.label.value, style=f"bold {COLOURS[verdict.label.value]}"), verdict.domain or "")
    if verdict.rationale:
        console.print(Text(verdict.rationale, style="italic"))
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, score in asdict(verdict.scores).items():
        table.add_row(name.upper(), f"{score:.3f}", Text("█" * round(score * 30), style=COLOURS[name.upper()]))
    console.print(table)
    console.print(Text(f"{verdict.release} · {verdict.release_digest[:19]}", style="dim"))


async def _check(text: str, release: str | None) -> Verdict:
    async with _engine(release) as engine:
        conversation = Conversation((Message("user", text, "/text"),))
        return await engine.judge("cli", conversation, stage="request", rationale=True)


def judge(
    file: Annotated[Path, typer.Argument(help='JSONL: an OpenAI chat body or {"text": …} a line.')],
    organization: Annotated[
        str | None, typer.Option("--org", help="Add the decision of this organisation's policy.")
    ] = None,
    policies: Annotated[Path | None, typer.Option("--policies", help="Folder of policies, with --org.")] = None,
    release: ReleaseFlag = None,
    rationale: Annotated[bool, typer.Option(help="Write a rationale for each verdict.")] = True,
    output: Annotated[Path | None, typer.Option("--out", help="Write here instead of to standard output.")] = None,
) -> None:
    """Judge each line of a file on its last message and print one JSON verdict a line, in the same order.

    A body that ends in an assistant's tool call is judged on that call, one that ends in a tool message on that
    result. A line that cannot be read gets {"id", "error"}, and the exit code is 1.
    """
    try:
        lines = list(_read(file))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    store = PolicyStore(policies or load_settings().policy.directory) if organization else None
    sink: IO[bytes] = output.open("wb") if output else sys.stdout.buffer
    try:
        failed = asyncio.run(_judge(lines, sink, organization, store, release, rationale=rationale))
    finally:
        if output:
            sink.close()
    for where in failed:
        typer.echo(f"{file}:{where}", err=True)
    if failed:
        raise typer.Exit(1)


def _read(file: Path) -> Iterator[Line]:
    with file.open("rb") as source:
        for raw in source:
            if raw.strip():
                yield _line(raw)


def _line(raw: bytes) -> Line:
    identity = None
    try:
        row = loads(raw)
        if not isinstance(row, dict):
            return Line(None, None, "a JSON object was expected")
        identity = row.get("id")
        if isinstance(row.get("text"), str):
            return Line(identity, Conversation((Message("user", row["text"], "/text"),)))
        if "messages" not in row:
            return Line(identity, None, "neither `messages` nor `text` is there")
        body = {"model": "none"} | {name: row[name] for name in fields.CHAT.names if row.get(name) is not None}
        return Line(identity, parse_request(dumps(body)).conversation)
    except StrictJsonError as error:
        return Line(identity, None, error.message)
    except RequestError as error:
        return Line(identity, None, f"{error.param or '/'}: {error.message}")


async def _judge(
    lines: list[Line],
    sink: IO[bytes],
    organization: str | None,
    store: PolicyStore | None,
    release: str | None,
    *,
    rationale: bool,
) -> list[str]:
    """Write the answers in order and return what could not be judged, as ``line: why``."""
    failed = []
    async with _engine(release) as engine:
        slots = asyncio.Semaphore(UNDER_WAY)

        async def answer(line: Line) -> dict[str, Any]:
            if line.conversation is None:
                return {"id": line.id, "error": line.error}
            async with slots:
                try:
                    verdict = await engine.judge(
                        organization or "cli", line.conversation, stage="request", rationale=rationale, last_only=True
                    )
                except JudgeUnavailable as error:
                    return {"id": line.id, "error": f"{error.reason}: {error}"}
            decision = _decision(store, organization, line.conversation, verdict, engine.release.thresholds)
            return _answer(line.id, verdict) | ({"decision": decision} if decision else {})

        with _progress() as progress:
            task = progress.add_task("judging", total=len(lines))
            answers = [asyncio.create_task(answer(line)) for line in lines]
            for number, pending in enumerate(answers, 1):
                found = await pending
                if "error" in found:
                    failed.append(f"{number}: {found['error']}")
                sink.write(orjson.dumps(found) + b"\n")
                progress.advance(task)
    sink.flush()
    return failed


def _decision(
    store: PolicyStore | None,
    organization: str | None,
    conversation: Conversation,
    verdict: Verdict,
    thresholds: Thresholds,
) -> dict[str, Any] | None:
    if store is None or organization is None:
        return None
    calls = conversation.messages[-1].tool_calls
    facts = Facts("response" if calls else "request", verdict, calls, thresholds)
    decision: Decision = decide(store.current.policy(organization), facts, decision_id=str(uuid7()))
    return {
        "effect": decision.effect,
        "domain": decision.domain,
        "route": decision.route,
        "reasons": [reason.id for reason in decision.reasons],
        "revision": decision.revision,
    }


def _answer(identity: Any, verdict: Verdict) -> dict[str, Any]:
    return {
        "id": identity,
        "label": verdict.label,
        "scores": {name.upper(): round(score, 6) for name, score in asdict(verdict.scores).items()},
        "domain": verdict.domain,
        "rationale": verdict.rationale,
        "unjudged": [asdict(part) for part in verdict.unjudged],
    }


@asynccontextmanager
async def _engine(release: str | None) -> AsyncIterator[SafetyEngine]:
    folder = builtin_release() if release in (None, BUILTIN) else Path(str(release))
    if not folder.is_dir():
        raise ReleaseError(f"{folder}: no such release folder; name one, or leave --release away for {BUILTIN}")
    engine = SafetyEngine(EngineOptions(release=folder, timeout_s=600.0, hang_s=600.0))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
