"""``so8t policy``: check, test, explain and compare policies, and let a gateway reload them."""

import os
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.cli.policy_compare import diff
from gateway.cli.policy_explain import explain_command
from gateway.cli.policy_files import BaseFlag, JsonFlag, existing
from gateway.cli.policy_reload import reload_command
from gateway.cli.policy_replay import replay_command
from gateway.cli.policy_shadow import app as shadow_app
from gateway.cli.policy_tables import tables_command
from gateway.errors import PolicyError
from gateway.policy.advice import advise
from gateway.policy.bundle import build_bundle, read_files
from gateway.policy.document import read_policy
from gateway.policy.schema import BASE_SCHEMA, POLICY_SCHEMA
from gateway.policy.tables import TABLE_SCHEMA

app = typer.Typer(no_args_is_help=True, help="Check, test and explain policies.")
app.command(name="test")(tables_command)
app.command(name="explain")(explain_command)
app.command()(diff)
app.command(name="replay")(replay_command)
app.command(name="reload")(reload_command)
app.add_typer(shadow_app, name="shadow")


@app.callback()
def _policy() -> None:
    pass


@app.command()
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or directories; ./policies without any.")] = None,
    base: BaseFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Check policies against schema and base; print each one's revision, or every problem with its place."""
    wanted = existing(paths or [Path("policies")], base)
    checked: list[dict[str, Any]] = []
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    try:
        files = read_files(wanted, base)
        bundle = build_bundle(files)
        policies = (read_policy(data, name) for name, data in files.policies.items())
        advice = tuple(str(one) for policy in policies for one in advise(policy, os.environ))
        checked = [
            {"path": bundle.paths[name], "organization": name, "revision": policy.revision}
            for name, policy in bundle.policies.items()
        ]
        checked.append({"path": None, "organization": None, "revision": bundle.base.revision})
    except PolicyError as error:
        problems = error.problems
    if as_json:
        typer.echo(orjson.dumps({"ok": not problems, "policies": checked, "problems": problems, "advice": advice}))
    else:
        for problem in problems:
            typer.echo(problem)
        for one in advice:
            typer.echo(f"advice: {one}", err=True)
        for each in checked:
            typer.echo(
                f"ok {each['path'] or base or 'base (packaged)'} {each['organization'] or '-'} {each['revision']}"
            )
    raise typer.Exit(1 if problems else 0)


@app.command()
def schema(
    base: Annotated[bool, typer.Option("--base", help="Of a base file instead of an organisation's.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Of test tables instead of policies.")] = False,
) -> None:
    """Print the JSON Schema of policy files, for editors."""
    chosen = TABLE_SCHEMA if tables else BASE_SCHEMA if base else POLICY_SCHEMA
    typer.echo(orjson.dumps(chosen, option=orjson.OPT_INDENT_2))
