"""``so8t cases``: see and decide cases on the running gateway, as an administrator."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.audit_tables import print_wide
from gateway.cli.control import ask_running
from gateway.console.dossier import Dossier, Turn, read_dossier
from gateway.console.legible import plain
from gateway.console.texts import speak
from gateway.console.times import date, span
from gateway.errors import GatewayError
from gateway.store.directory import DataDirectory, locate
from gateway.store.records import os_user
from gateway.store.users import now_ms

app = typer.Typer(no_args_is_help=True, help="See and decide cases on the running gateway.")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The gateway's data directory [default: $SO8T_DATA_DIR, else ./var]")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Id = Annotated[str, typer.Argument(help="Id of the case")]
As = Annotated[str, typer.Option("--as", help="Who decides; recorded beside the operating system's user")]


@app.command(name="list")
def list_command(
    data_dir: DataDir = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organisation's")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only of this status: pending, approved ...")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="At most so many")] = 100,
    json: Json = False,
) -> None:
    """List cases: those that wait first, then the newest."""
    command = {"action": "list", "organization": org, "status": status, "limit": limit}
    cases = _command(locate(data_dir), command)["cases"]
    if json:
        typer.echo(orjson.dumps(cases, option=orjson.OPT_INDENT_2).decode())
        return
    say, now = speak("en"), now_ms()
    table = Table("id", "status", "organisation", "domain", "stage", "route", "asked by", "due", box=None)
    table.header_style = "dim"
    for case in cases:
        due = span(say, case["due_at"] - now) if case["status"] == "pending" else ""
        words = ("id", "status", "organization", "domain", "stage")
        table.add_row(
            *(_text(case[name] or "") for name in words), _text(case["handling"]["route"]), _text(case["owner"]), due
        )
    print_wide(table if cases else "there are no cases")


@app.command()
def show(case_id: Id, data_dir: DataDir = None, json: Json = False) -> None:
    """Show a case: what would be sent or done, why it was stopped, and who decided what."""
    told = _command(locate(data_dir), {"action": "show", "id": case_id})
    if json:
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    _print(told)


@app.command()
def approve(
    case_id: Id,
    name: As,
    data_dir: DataDir = None,
    need_not_ask: Annotated[
        bool, typer.Option("--need-not-ask", help="Teach: such requests need no person, they may pass")
    ] = False,
    json: Json = False,
) -> None:
    """Approve: what the case shows is sent or done once, exactly so."""
    _rule(data_dir, "approve", case_id, name, lesson="allow" if need_not_ask else None, json=json)


@app.command()
def deny(
    case_id: Id,
    name: As,
    data_dir: DataDir = None,
    should_be_refused: Annotated[
        bool, typer.Option("--should-be-refused", help="Teach: such requests are to be refused without asking")
    ] = False,
    json: Json = False,
) -> None:
    """Deny: nothing is sent or done."""
    _rule(data_dir, "deny", case_id, name, lesson="refuse" if should_be_refused else None, json=json)


@app.command()
def answer(
    case_id: Id,
    name: As,
    text: Annotated[str | None, typer.Option("--text", help="The answer [default: read from standard input]")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Answer in the model's place: whoever asked gets this text, nothing is sent."""
    _rule(data_dir, "answer", case_id, name, text=sys.stdin.read() if text is None else text, json=json)


def _rule(
    data_dir: Path | None,
    action: str,
    case_id: str,
    name: str,
    *,
    text: str | None = None,
    lesson: str | None = None,
    json: bool,
) -> None:
    command = {"action": action, "id": case_id, "as": name, "text": text, "lesson": lesson}
    case = _command(locate(data_dir), command)["case"]
    if json:
        typer.echo(orjson.dumps(case).decode())
        return
    given, needed = _approvals(case), case["handling"]["approvals"]
    waits = f"; {given} of {needed} approvals" if case["status"] == "pending" else ""
    typer.echo(f"case {case['id']}: {case['status']}{waits}")


def _approvals(case: dict[str, Any]) -> int:
    return sum(ruling["kind"] == "approve" for ruling in case["rulings"])


def _command(directory: DataDirectory, command: dict[str, Any]) -> dict[str, Any]:
    """Do it through the gateway that runs on the directory; say so when none does."""
    body = {**command, "actor": os_user()}
    otherwise = "cases are decided on a running one; start it with `so8t serve`"
    try:
        return ask_running(directory, "/control/cases", body, otherwise=otherwise)
    except GatewayError as error:
        _tell(str(error))
    raise typer.Exit(1)


def _tell(problem: str) -> None:
    typer.echo(f"so8t: {problem}", err=True)
    raise typer.Exit(1)


def _print(told: dict[str, Any]) -> None:
    case, console = told["case"], Console(highlight=False, soft_wrap=True)
    console.print(Text(f"case {case['id']}  {case['status']}", "bold"))
    grid = Table.grid(padding=(0, 2))
    rows = {
        "organisation": case["organization"],
        "asked by": f"{case['owner']} (key {case['key_id']})",
        "domain": case["domain"] or "",
        "route": case["handling"]["route"],
        "stage": f"{case['stage']} of {case['endpoint']}",
        "opened": date(case["opened_at"]),
        "due": date(case["due_at"]),
        "reason": case["reason"],
        "approvals": f"{_approvals(case)} of {case['handling']['approvals']}",
        "predecessor": case["predecessor"],
        "successor": case["successor"],
        "decision": case["decision_id"],
    }
    for name, value in rows.items():
        if value is not None:
            grid.add_row(Text(name, "dim"), _text(value))
    console.print(grid)
    for ruling, text in zip(case["rulings"], told["texts"], strict=True):
        console.print(_text(f"{date(ruling['at'])}  {ruling['kind']} by {ruling['by']} ({ruling['auth']})"))
        if text:
            console.print(_text(text))
    if told["request"] is None:
        console.print(Text("what it was about has been erased", "dim"))
        return
    reply = None if told["reply"] is None else told["reply"].encode()
    _print_dossier(console, read_dossier(told["request"].encode(), reply, (told["asked"] or "{}").encode()))


def _print_dossier(console: Console, dossier: Dossier) -> None:
    for reason in dossier.asked["reasons"]:
        console.print(_text(f"reason {reason.get('id', '')}: {reason.get('message', reason.get('effect', ''))}"))
    if dossier.replies:
        console.print(Text("what would be done", "bold"))
        for reply in dossier.replies:
            _print_turn(console, reply.turn)
    console.print(Text("the request", "bold"))
    for turn in dossier.turns:
        _print_turn(console, turn)
    for name, value in dossier.parameters:
        console.print(_text(f"{name}: {value}"))


def _print_turn(console: Console, turn: Turn) -> None:
    console.print(Text(plain(turn.role), "dim"))
    for text in turn.texts:
        console.print(_text(text))
    for call in turn.calls:
        console.print(_text(f"call of {call.name}: {call.arguments}"))
    for name, value in turn.fields:
        console.print(_text(f"{name}: {value}"))


def _text(value: str) -> Text:
    """Return what others wrote without what a terminal would obey."""
    return Text(plain(value))
