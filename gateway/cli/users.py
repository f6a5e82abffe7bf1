"""``so8t users``: the people who decide cases, on a running gateway or on its data directory."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.control import ask
from gateway.errors import GatewayError
from gateway.store.directory import DataDirectory, locate
from gateway.store.engine import open_reader
from gateway.store.lock import DirectoryInUse
from gateway.store.records import os_user
from gateway.store.store import Store
from gateway.store.users import User, list_users, plain

app = typer.Typer(no_args_is_help=True, help="Add, list and disable the people who decide cases.")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The gateway's data directory [default: $SO8T_DATA_DIR, else ./var]")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Name = Annotated[str, typer.Argument(help="Name that the user signs in with")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input [default: make one, print it]")
]


@app.command()
def add(
    name: Name,
    org: Annotated[str, typer.Option("--org", help="Organisation whose cases the user decides")],
    group: Annotated[list[str] | None, typer.Option("--group", help="Group that routes name; may be repeated")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Mail address")] = None,
    language: Annotated[str, typer.Option("--language", help="Of the console: en or ja")] = "en",
    password_stdin: FromStdin = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add a user; a password that was made here is the last line of the output, and kept nowhere."""
    command = {
        "action": "create",
        "name": name,
        "organization": org,
        "groups": group or [],
        "email": email,
        "language": language,
        "password": _password(password_stdin),
    }
    _tell(_command(locate(data_dir), command), f"user {name} of {org} added", json=json)


@app.command()
def password(name: Name, password_stdin: FromStdin = False, data_dir: DataDir = None, json: Json = False) -> None:
    """Give a user another password; whoever is signed in by that name is signed out."""
    command = {"action": "password", "name": name, "password": _password(password_stdin)}
    _tell(_command(locate(data_dir), command), f"user {name} has another password", json=json)


@app.command()
def disable(name: Name, data_dir: DataDir = None, json: Json = False) -> None:
    """Disable a user: from the return of this command on nobody signs in or decides by that name."""
    _tell(_command(locate(data_dir), {"action": "disable", "name": name}), f"user {name} disabled", json=json)


@app.command(name="list")
def list_command(
    data_dir: DataDir = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organisation's")] = None,
    json: Json = False,
) -> None:
    """List all users, disabled ones too."""
    users = _list(locate(data_dir), org)
    if json:
        typer.echo(orjson.dumps([plain(user) for user in users], option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("name", "organisation", "groups", "e-mail", "language", "disabled", box=None, header_style="dim")
    for user in users:
        words = (user.name, user.organization, " ".join(user.groups), user.email or "", user.language)
        table.add_row(*map(Text, words), "" if user.disabled_at is None else _date(user.disabled_at))
    Console(highlight=False, soft_wrap=True).print(table if users else "there are no users")


def _date(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _password(from_stdin: bool) -> str | None:
    return sys.stdin.readline().rstrip("\r\n") if from_stdin else None


def _tell(answer: dict[str, Any], done: str, *, json: bool) -> None:
    if json:
        typer.echo(orjson.dumps(answer).decode())
        return
    made = answer.get("password")
    typer.echo(f"{done}; the password is shown only now:" if made else done, err=True)
    if made:
        typer.echo(made)


def _list(directory: DataDirectory, org: str | None) -> list[User]:
    if not directory.database.is_file():
        return []
    engine = open_reader(directory.database)
    try:
        with engine.connect() as conn:
            return list_users(conn, org)
    finally:
        engine.dispose()


def _command(directory: DataDirectory, command: dict[str, Any]) -> dict[str, Any]:
    """Do it on the data directory itself, or through the gateway that holds it."""
    body = {**command, "actor": os_user()}
    if command.get("password") == "":
        typer.echo("so8t: there is no password on standard input", err=True)
        raise typer.Exit(2)
    try:
        try:
            store = Store(directory)
        except DirectoryInUse:
            return ask(directory, "/control/users", body)
        with store:
            return asyncio.run(store.users.command(body))
    except GatewayError as error:
        typer.echo(f"so8t: {error}", err=True)
        raise typer.Exit(1) from None
