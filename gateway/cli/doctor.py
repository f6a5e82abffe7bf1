"""``so8t doctor``."""

import asyncio
import sqlite3
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from gateway.app import installed_version
from gateway.cli.serve import ConfigFlag, DataFlag
from gateway.errors import GatewayError, PolicyError, ReleaseError
from gateway.policy import PolicyStore
from gateway.safety.release import builtin_release, open_release
from gateway.settings import Settings, load_settings
from gateway.store.directory import DataDirectory
from gateway.store.engine import open_reader
from gateway.store.keys import list_keys
from gateway.store.lock import DirectoryInUse, DirectoryLock
from gateway.upstream.http import HttpUpstream


def doctor(
    config: ConfigFlag = None,
    data_dir: DataFlag = None,
    upstream_url: Annotated[str | None, typer.Option(help="Base URL of the upstream")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Say what is configured, reachable and missing. Exit code 1: something is wrong."""
    settings = load_settings(config, overrides={"store.data_dir": data_dir, "upstream.url": upstream_url})
    found = examine(settings)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(found)
    if found["problems"]:
        raise typer.Exit(1)


def examine(settings: Settings) -> dict[str, Any]:
    """Return what there is, and under ``problems`` what is wrong with it. Nothing is changed."""
    problems: list[str] = []
    found: dict[str, Any] = {"version": installed_version(), "sqlite": sqlite3.sqlite_version}
    found["release"] = _release(settings, problems)
    found["policies"] = _policies(settings, problems)
    found["upstream"] = _upstream(settings, problems)
    found |= _data(settings, problems)
    return found | {"problems": problems}


def _release(settings: Settings, problems: list[str]) -> dict[str, Any]:
    folder = settings.safety.release or builtin_release()
    try:
        release = open_release(folder)
    except ReleaseError as error:
        problems.append(str(error))
        return {"folder": str(folder), "id": None}
    return {"folder": str(folder), "id": release.id, "digest": release.digest}


def _policies(settings: Settings, problems: list[str]) -> dict[str, Any]:
    directory = settings.policy.directory
    found = {"directory": None if directory is None else str(directory)}
    try:
        bundle = PolicyStore(directory).current
    except PolicyError as error:
        problems += error.problems
        return found
    return found | {"revision": bundle.revision, "organizations": sorted(bundle.policies)}


def _upstream(settings: Settings, problems: list[str]) -> dict[str, Any]:
    upstream = settings.upstream
    if upstream.url is None:
        return {"url": None, "kind": "the built-in Task head"}
    key = settings.upstream_key()
    reachable = asyncio.run(_reach(HttpUpstream(upstream.url, key, connect_timeout_s=5, read_timeout_s=5)))
    if not reachable:
        problems.append(f"the upstream {upstream.url} cannot be reached")
    return {"url": upstream.url, "kind": "http", "key": f"{upstream.api_key_env} is set" if key else None} | {
        "reachable": reachable
    }


async def _reach(upstream: HttpUpstream) -> bool:
    try:
        return await upstream.reachable()
    finally:
        await upstream.close()


def _data(settings: Settings, problems: list[str]) -> dict[str, Any]:
    """Look into the data directory, which a running gateway may hold; a missing one is no problem."""
    directory = DataDirectory(settings.store.data_dir)
    found: dict[str, Any] = {"data_dir": str(directory.path), "running": False, "keys": 0, "audit_public_key": None}
    if not directory.database.is_file():
        return found
    try:
        DirectoryLock(directory).close()
    except DirectoryInUse:
        found["running"] = True
    try:
        found["audit_public_key"] = str(directory.verifier())
        reader = open_reader(directory.database)
        try:
            with reader.connect() as connection:
                found["keys"] = sum(key.revoked_at is None for key in list_keys(connection))
        finally:
            reader.dispose()
    except (GatewayError, DBAPIError) as error:
        problems.append(f"{directory.path}: {error}")
    return found


def _print(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for name, value in found.items():
        if name == "problems":
            continue
        shown = ", ".join(f"{key}: {item}" for key, item in value.items()) if isinstance(value, dict) else value
        console.print(f"[dim]{name:17}[/dim] {shown}", markup=True)
    for problem in found["problems"]:
        console.print("[red]problem[/red]          ", problem, markup=True)
    if not found["problems"]:
        console.print("[green]nothing is missing[/green]")
