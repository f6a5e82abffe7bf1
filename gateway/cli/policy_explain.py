"""``so8t policy explain``: why a policy decides as it does, about a situation or about a recorded decision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from jsonschema import Draft202012Validator

from gateway.cli.policy_files import BaseFlag, DataFlag, JsonFlag, existing
from gateway.errors import PolicyError, SettingsError
from gateway.policy.bundle import TABLE_SUFFIX, build_bundle, read_files
from gateway.policy.engine import Facts
from gateway.policy.explanation import explain, plain, tell
from gateway.policy.given import GIVEN_SCHEMA, contradictions, facts_of
from gateway.policy.merge import EffectivePolicy
from gateway.policy.picture import draw_explanation
from gateway.policy.source import MAX_BYTES, error_of, read_source
from gateway.policy.tables import read_table
from gateway.policy.violations import problems_of


def explain_command(
    path: Annotated[Path, typer.Argument(help="The policy.")],
    given: Annotated[
        str | None, typer.Option("--given", help="The situation, as in a test table: '{domain: pii}'.")
    ] = None,
    case: Annotated[
        str | None, typer.Option("--case", help="A case of the table beside the policy, by its name.")
    ] = None,
    decision: Annotated[str | None, typer.Option("--decision", help="A recorded decision, by its id.")] = None,
    data_dir: DataFlag = None,
    base: BaseFlag = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw it into this SVG file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell every rule that was tried, why it held or not, and what won."""
    existing([path], base)
    if sum(one is not None for one in (given, case, decision)) != 1:
        typer.echo("so8t: name what to explain by one of --given, --case and --decision", err=True)
        raise typer.Exit(2)
    try:
        bundle = build_bundle(read_files([path], base))
        policy = next(iter(bundle.policies.values()), bundle.base)
        note = None
        if decision is not None:
            facts, policy, note = _recorded(decision, data_dir, bundle.policy)
        elif case is not None:
            facts = _of_case(path, case, policy)
        else:
            facts = _of_text(given or "", policy)
    except PolicyError as error:
        for problem in error.problems:
            typer.echo(problem)
        raise typer.Exit(1) from None
    explanation = explain(policy, facts, decision_id=decision or "explain")
    if picture is not None:
        picture.write_text(draw_explanation(explanation), encoding="utf-8")
    if as_json:
        typer.echo(orjson.dumps({**plain(explanation), "note": note}))
        return
    for line in tell(explanation):
        typer.echo(line)
    if note:
        typer.echo(f"\n{note}")


def _of_text(given: str, policy: EffectivePolicy) -> Facts:
    source, problems = read_source(given.encode(), "--given")
    for error in Draft202012Validator(GIVEN_SCHEMA).iter_errors(source.value):
        problems += problems_of(error, source)
    if not problems:
        problems = [source.problem(at, what) for at, what in contradictions(source.value, policy)]
    if problems:
        raise error_of(problems)
    return facts_of(source.value, policy)


def _of_case(path: Path, name: str, policy: EffectivePolicy) -> Facts:
    file = path.with_name(path.stem + TABLE_SUFFIX)
    existing([file])
    with file.open("rb") as stream:
        table = read_table(stream.read(MAX_BYTES + 1), str(file))
    found = [one for one in table.cases if one.name == name] or [one for one in table.cases if name in one.name]
    if len(found) != 1:
        known = "".join(f"\n  {one.name}" for one in found or table.cases)
        raise PolicyError((f"{file}: {len(found) or 'no'} cases are named like `{name}`; there are:{known}",))
    if problems := [
        f"{file}:{found[0].line}:{found[0].column}: {what}" for _, what in contradictions(found[0].given, policy)
    ]:
        raise PolicyError(tuple(problems))
    return facts_of(found[0].given, policy)


def _recorded(decision_id: str, data_dir: Path | None, policy_of: Any) -> tuple[Facts, EffectivePolicy, str]:
    from gateway.policy.inputs import facts_of_row
    from gateway.store.directory import locate
    from gateway.store.engine import open_reader
    from gateway.store.inputs import find_input, owners

    database = locate(data_dir).database
    if not database.is_file():
        raise SettingsError(f"there is no gateway's database in {database.parent}; name it with --data-dir")
    engine = open_reader(database)
    try:
        with engine.connect() as conn:
            row = find_input(conn, decision_id)
            known = owners(conn)
    finally:
        engine.dispose()
    if row is None:
        raise PolicyError((f"{database}: no recorded input of the decision {decision_id}; was it erased?",))
    policy: EffectivePolicy = policy_of(row["org"])
    return facts_of_row(row, known.get(row["key_id"], "")), policy, _note(row, policy)


def _note(row: Mapping[str, Any], policy: EffectivePolicy) -> str:
    note = f"recorded: {row['effect']}, by {', '.join(orjson.loads(row['reasons']))}"
    if row["revision"] != policy.revision:
        note += f"; it was decided by another revision, {row['revision'][:19]}"
    if row["calls"] != "[]":
        note += "; arguments of tool calls are not kept, and stand here as {}"
    return note
