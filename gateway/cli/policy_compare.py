"""``so8t policy diff``: what changes from one bundle to another, and which recorded decisions flip."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.cli.policy_files import BaseFlag, DataFlag, JsonFlag, existing
from gateway.cli.policy_replay import replay_recorded
from gateway.cli.policy_replay import tell as tell_report
from gateway.errors import PolicyError
from gateway.policy.bundle import build_bundle, read_files
from gateway.policy.difference import Change, compare, tell
from gateway.policy.replay import plain


def diff(
    old: Annotated[Path, typer.Argument(help="A policy, or a directory of policies.")],
    new: Annotated[Path, typer.Argument(help="What it is compared with.")],
    recorded: Annotated[bool, typer.Option("--recorded", help="Also replay the recorded past by both.")] = False,
    data_dir: DataFlag = None,
    base: BaseFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell what was added, removed, tightened, loosened or changed; exit code 1 when something was."""
    existing([old, new], base)
    try:
        before, after = build_bundle(read_files([old], base)), build_bundle(read_files([new], base))
    except PolicyError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(2) from None
    found: dict[str, tuple[Change, ...]] = {}
    for name in sorted(before.policies.keys() | after.policies.keys()):
        if changes := compare(before.policy(name), after.policy(name)):
            found[name] = changes
    report = replay_recorded(new, old, base, data_dir) if recorded else None
    if as_json:
        policies = {
            name: [
                {
                    "part": one.part,
                    "kind": one.kind,
                    "direction": one.direction,
                    "details": [{"key": key, "before": old, "after": new} for key, old, new in one.details],
                }
                for one in changes
            ]
            for name, changes in found.items()
        }
        typer.echo(orjson.dumps({"policies": policies, "recorded": plain(report) if report else None}))
    else:
        for name, changes in found.items():
            typer.echo(f"{name}  {before.policy(name).revision[:19]} -> {after.policy(name).revision[:19]}")
            for line in tell(changes):
                typer.echo(f"  {line}")
        if not found:
            typer.echo("no difference")
        for line in tell_report(report) if report else ():
            typer.echo(line)
    raise typer.Exit(1 if found else 0)
