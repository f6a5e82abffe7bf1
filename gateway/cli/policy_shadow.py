"""``so8t policy shadow``: what a second bundle decides otherwise, for how many keys it counts, and taking it back."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.cli.policy_files import BaseFlag, DataFlag, JsonFlag, existing
from gateway.cli.policy_replay import tell as tell_report
from gateway.errors import PolicyError, SettingsError
from gateway.policy.bundle import build_bundle, read_files
from gateway.policy.replay import plain
from gateway.policy.shadow import FOLDER, read_stage, shadow_report, write_stage

app = typer.Typer(no_args_is_help=True, help="A second bundle beside the first.")

Policies = Annotated[Path, typer.Option("--policies", help="The directory of policies; its shadow is in `shadow/`.")]
DEFAULT = Path("policies")


@app.command()
def report(
    data_dir: DataFlag = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organisation's decisions.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Count and list the decisions in which the shadow differed from the bundle in force."""
    from gateway.store.directory import locate
    from gateway.store.engine import open_reader
    from gateway.store.inputs import shadow_rows

    database = locate(data_dir).database
    if not database.is_file():
        raise SettingsError(f"there is no gateway's database in {database.parent}; name it with --data-dir")
    engine = open_reader(database)
    try:
        with engine.connect() as conn:
            found = shadow_report(shadow_rows(conn, org))
    finally:
        engine.dispose()
    if as_json:
        typer.echo(orjson.dumps(plain(found)))
        return
    if not found.total:
        typer.echo("no decision was made beside a shadow yet")
        return
    for line in tell_report(found):
        typer.echo(line)


@app.command()
def stage(
    percent: Annotated[float, typer.Argument(min=0, max=100, help="Share of keys for which the shadow decides.")],
    policies: Policies = DEFAULT,
    base: BaseFlag = None,
) -> None:
    """Let the shadow decide for a share of the keys: always the same ones, and all of a smaller share."""
    folder = policies / FOLDER
    existing([folder])
    try:
        build_bundle(read_files([folder], base))
    except PolicyError as error:
        for problem in error.problems:
            typer.echo(problem)
        raise typer.Exit(1) from None
    before = read_stage(folder)
    write_stage(folder, percent)
    typer.echo(f"the shadow in {folder} decides for {percent:g} % of the keys (before: {before:g} %)")


@app.command()
def rollback(policies: Policies = DEFAULT) -> None:
    """Take the shadow back: it decides for no key any more, and goes on being recorded."""
    folder = policies / FOLDER
    existing([folder])
    before = read_stage(folder)
    write_stage(folder, 0)
    typer.echo(f"the shadow in {folder} decides for no key any more (before: {before:g} %)")
