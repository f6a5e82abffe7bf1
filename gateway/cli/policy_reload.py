"""``so8t policy reload``: let the running gateway take the policy files into force now."""

import orjson
import typer

from gateway.cli.policy_files import DataFlag, JsonFlag
from gateway.errors import GatewayError


def reload_command(data_dir: DataFlag = None, as_json: JsonFlag = False) -> None:
    """Let the running gateway take its policy files into force: whole, or not at all when one of them is wrong."""
    from gateway.cli.control import ask_running
    from gateway.store.directory import locate
    from gateway.store.records import os_user

    try:
        answer = ask_running(
            locate(data_dir),
            "/control/policy",
            {"action": "reload", "actor": os_user()},
            otherwise="`so8t serve` reads the policies when it starts",
        )
    except GatewayError as error:
        typer.echo(f"so8t: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(orjson.dumps(answer))
    elif answer["ok"]:
        typer.echo(f"ok, in force: {answer['revision']}")
    else:
        for problem in answer["problems"]:
            typer.echo(problem)
        typer.echo(f"so8t: what was in force stays: {answer['revision']}", err=True)
    raise typer.Exit(0 if answer["ok"] else 1)
