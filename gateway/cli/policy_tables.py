"""``so8t policy test``: run the tables beside policies, and tell like a test runner."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.cli.policy_files import BaseFlag, JsonFlag, existing
from gateway.errors import PolicyError
from gateway.policy.bundle import TABLE_SUFFIX, Bundle, build_bundle, read_files
from gateway.policy.source import MAX_BYTES
from gateway.policy.tables import NONE, Outcome, count, read_table, run_table


@dataclass(frozen=True, slots=True)
class _Run:
    """What became of one table: its outcomes, or the problems for which it could not run."""

    table: Path
    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems and all(outcome.holds for outcome in self.outcomes)


def tables_command(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Tables, policies or directories; else ./policies.")
    ] = None,
    base: BaseFlag = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name the cases that hold, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the tables beside policies (NAME_test.yaml beside NAME.yaml); exit code 1 when a case does not hold."""
    wanted = existing(paths or [Path("policies")], base)
    began = time.perf_counter()
    tables, bare = _tables(wanted)
    if not tables:
        typer.echo(f"so8t: no tables in {', '.join(map(str, wanted))}: name them NAME{TABLE_SUFFIX}", err=True)
        raise typer.Exit(2)
    runs = [_run(table, base) for table in tables]
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(orjson.dumps(_plain(runs, bare)))
    else:
        for line in _lines(runs, bare, seconds, verbose=verbose):
            typer.echo(line)
    raise typer.Exit(0 if all(run.ok for run in runs) else 1)


def _tables(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the tables that ``paths`` mean, and the policies that have none."""
    tables: dict[Path, None] = {}
    bare = []
    for path in paths:
        if path.is_dir():
            tables |= dict.fromkeys(sorted(path.glob(f"[!.]*{TABLE_SUFFIX}")))
            policies = [file for file in sorted(path.glob("[!.]*.yaml")) if not file.name.endswith(TABLE_SUFFIX)]
        elif path.name.endswith(TABLE_SUFFIX):
            tables[path] = None
            continue
        else:
            policies = [path]
        for file in policies:
            table = file.with_name(file.stem + TABLE_SUFFIX)
            if table.is_file():
                tables[table] = None
            else:
                bare.append(file)
    return list(tables), bare


def _run(file: Path, base: Path | None) -> _Run:
    try:
        with file.open("rb") as stream:
            table = read_table(stream.read(MAX_BYTES + 1), str(file))
        return _Run(file, run_table(table, _policy(file, table.policy, base)))
    except PolicyError as error:
        return _Run(file, problems=error.problems)
    except OSError as error:
        return _Run(file, problems=(f"{file}:1:1: cannot be read: {error.strerror}; check path and rights",))


def _policy(file: Path, named: str | None, base: Path | None) -> Any:
    """Return the policy that the table ``file`` is about."""
    policy = file.parent / named if named else file.with_name(file.name.removesuffix(TABLE_SUFFIX) + ".yaml")
    if not policy.is_file():
        raise PolicyError((f"{file}:1:1: there is no policy {policy}; name its file: `policy: FILE.yaml`",))
    bundle: Bundle = build_bundle(read_files([policy], base))
    return next(iter(bundle.policies.values()))


def _lines(runs: list[_Run], bare: list[Path], seconds: float, *, verbose: bool) -> Iterator[str]:
    for run in runs:
        passed, failed = count(run.outcomes)
        yield f"{'ok  ' if run.ok else 'FAIL'} {run.table}  {passed} of {passed + failed} cases hold"
        yield from run.problems
        for outcome in run.outcomes:
            place = f"{run.table}:{outcome.case.line}:{outcome.case.column}"
            if not outcome.holds:
                yield f"{place}: {outcome.case.name}"
                yield from _why(outcome)
            elif verbose:
                yield f"  holds  {outcome.case.name}"
    for file in bare:
        yield f"     {file}  has no table: write {file.stem}{TABLE_SUFFIX} beside it"
    passed, failed = map(sum, zip(*(count(run.outcomes) for run in runs), strict=True))
    unread = sum(bool(run.problems) for run in runs)
    yield f"{failed} failed, {passed} passed{f', {unread} tables not run' if unread else ''} in {seconds:.2f} s"


def _why(outcome: Outcome) -> Iterator[str]:
    if outcome.case.fails:
        yield "    `fails: true`, but everything is as expected; the case shows nothing"
        return
    for one in outcome.differences:
        yield f"    {one.key:8} expected {_shown(one.expected)}"
        yield f"    {'':8} got      {_shown(one.got)}"
    fired = ", ".join(f"{reason.id} ({reason.effect.value.lower()})" for reason in outcome.decision.reasons)
    yield f"    {'fired':8} {fired}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or NONE
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _plain(runs: list[_Run], bare: list[Path]) -> dict[str, Any]:
    return {
        "ok": all(run.ok for run in runs),
        "passed": sum(count(run.outcomes)[0] for run in runs),
        "failed": sum(count(run.outcomes)[1] for run in runs),
        "tables": [
            {
                "path": str(run.table),
                "problems": run.problems,
                "cases": [
                    {
                        "name": outcome.case.name,
                        "line": outcome.case.line,
                        "holds": outcome.holds,
                        "fails": outcome.case.fails,
                        "differences": [
                            {"key": one.key, "expected": one.expected, "got": one.got} for one in outcome.differences
                        ],
                    }
                    for outcome in run.outcomes
                ],
            }
            for run in runs
        ],
        "without_table": [str(file) for file in bare],
    }
