"""``so8t keys``: make, list and revoke the keys of callers, on a running gateway or on its data directory."""

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
from gateway.store.keys import KeyInfo, list_keys
from gateway.store.lock import DirectoryInUse
from gateway.store.records import os_user
from gateway.store.store import Store

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke keys.")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The gateway's data directory [default: $SO8T_DATA_DIR, else ./var]")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command()
def create(
    org: Annotated[str, typer.Option("--org", help="Organisation that the key speaks for")],
    owner: Annotated[str, typer.Option("--owner", help="Person who answers for the key")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a key; it is the last line of the output, and kept nowhere."""
    made = _command(locate(data_dir), {"action": "create", "organization": org, "owner": owner})
    if json:
        typer.echo(orjson.dumps(made).decode())
        return
    typer.echo(f"key {made['id']} of {owner} for {org}; it is shown only now:", err=True)
    typer.echo(made["key"])


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key (the part between the underscores)")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Revoke a key: from the return of this command on it opens nothing."""
    revoked = _command(locate(data_dir), {"action": "revoke", "id": key_id})
    typer.echo(orjson.dumps(revoked).decode() if json else f"{revoked['id']} revoked at {revoked['revoked_at']}")


@app.command(name="list")
def list_command(
    data_dir: DataDir = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organisation's")] = None,
    json: Json = False,
) -> None:
    """List all keys, revoked ones too. The secrets are kept nowhere."""
    keys = _list(locate(data_dir), org)
    if json:
        typer.echo(orjson.dumps([_plain(key) for key in keys], option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("id", "organisation", "owner", "created", "revoked", box=None, header_style="dim")
    for key in keys:
        table.add_row(key.id, key.organization, Text(key.owner), key.created_at, key.revoked_at or "")
    Console(highlight=False, soft_wrap=True).print(table if keys else "there are no keys")


def _list(directory: DataDirectory, org: str | None) -> list[KeyInfo]:
    if not directory.database.is_file():
        return []
    engine = open_reader(directory.database)
    try:
        with engine.connect() as conn:
            return list_keys(conn, org)
    finally:
        engine.dispose()


def _plain(key: KeyInfo) -> dict[str, str | None]:
    return {
        "id": key.id,
        "organization": key.organization,
        "owner": key.owner,
        "prefix": key.prefix,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _command(directory: DataDirectory, command: dict[str, str]) -> dict[str, Any]:
    """Do it on the data directory itself, or through the gateway that holds it."""
    body = {**command, "actor": os_user()}
    try:
        try:
            store = Store(directory)
        except DirectoryInUse:
            return ask(directory, "/control/keys", body)
        with store:
            return store.command(body)
    except GatewayError as error:
        typer.echo(f"so8t: {error}", err=True)
        raise typer.Exit(1) from None
