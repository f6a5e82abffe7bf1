"""``so8t policy``: check policies and publish their schema."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.errors import PolicyError
from gateway.policy.bundle import build_bundle, read_files
from gateway.policy.schema import BASE_SCHEMA, POLICY_SCHEMA

app = typer.Typer(no_args_is_help=True, help="Check policies and publish their schema.")


@app.callback()
def _policy() -> None:
    pass


@app.command()
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or directories; ./policies without any.")] = None,
    base: Annotated[Path | None, typer.Option(help="A base file in place of the packaged one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for scripts.")] = False,
) -> None:
    """Check policies against schema and base; print each one's revision, or every problem with its place."""
    wanted = paths or [Path("policies")]
    for path in [*wanted, *([base] if base else [])]:
        if not path.exists():
            typer.echo(f"so8t: no such file or directory: {path}", err=True)
            raise typer.Exit(2)
    checked: list[dict[str, Any]] = []
    problems: tuple[str, ...] = ()
    try:
        bundle = build_bundle(read_files(wanted, base))
        checked = [
            {"path": bundle.paths[name], "organization": name, "revision": policy.revision}
            for name, policy in bundle.policies.items()
        ]
        checked.append({"path": None, "organization": None, "revision": bundle.base.revision})
    except PolicyError as error:
        problems = error.problems
    if as_json:
        typer.echo(orjson.dumps({"ok": not problems, "policies": checked, "problems": problems}))
    else:
        for problem in problems:
            typer.echo(problem)
        for one in checked:
            typer.echo(f"ok {one['path'] or base or 'base (packaged)'} {one['organization'] or '-'} {one['revision']}")
    raise typer.Exit(1 if problems else 0)


@app.command()
def schema(
    base: Annotated[bool, typer.Option("--base", help="Of a base file instead of an organisation's.")] = False,
) -> None:
    """Print the JSON Schema of policy files, for editors."""
    chosen = BASE_SCHEMA if base else POLICY_SCHEMA
    typer.echo(orjson.dumps(chosen, option=orjson.OPT_INDENT_2))
