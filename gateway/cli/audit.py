"""``so8t audit``: verify the log, show entries, prove one to an outsider; beside a running gateway or without one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from audit.entry import read_entry
from audit.errors import AuditError, ProofError
from audit.log import find_entries, latest_entries, read_heads, read_key, read_payloads
from audit.note import Checkpoint, Verifier, encode_base64
from audit.prove import find_published, prove, verify_proof
from audit.publish import origin_of
from audit.tiles import CHECKPOINT
from audit.vault import Opened
from audit.verify import verify_log
from gateway.cli.audit_story import tell_case
from gateway.cli.audit_tables import Record, payload_json, print_record, print_reports, print_table, report_json
from gateway.errors import SettingsError
from gateway.store.directory import DataDirectory, locate
from gateway.store.engine import open_reader

PUBLISHED_WITHIN_S: Final = 3.0

app = typer.Typer(no_args_is_help=True, help="Verify, show and prove the audit log.")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The gateway's data directory [default: $SO8T_DATA_DIR, else ./var]")
]
Organization = Annotated[str | None, typer.Option("--org", help="Only this organisation's log")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Keys = Annotated[
    list[str] | None, typer.Option("--key", help="Public key `name+hash+base64` [default: the data directory's own]")
]


@app.command()
def verify(
    data_dir: DataDir = None,
    org: Organization = None,
    json: Json = False,
    key: Keys = None,
    since: Annotated[Path | None, typer.Option(help="An earlier checkpoint of the log that must be its past")] = None,
) -> None:
    """Recompute the published logs and the database; exit code 1 when anything does not hold."""
    directory = _directory(data_dir)
    verifiers = _verifiers(key, directory)
    with _failing(), _engine(directory) as database:
        names = _organizations(database)
        if directory.published.is_dir():
            names |= {each.name for each in directory.published.iterdir() if each.is_dir()}
        chosen = sorted(names) if org is None else [org]
        if since is not None and len(chosen) != 1:
            raise typer.BadParameter("an earlier checkpoint is of one log: name it with --org")
        earlier = None if since is None else _read(since)
        reports = [
            verify_log(
                directory.published / name,
                verifiers,
                organization=name,
                origin=origin_of(verifiers[0].name, name),
                database=database,
                since=earlier,
            )
            for name in chosen
        ]
    if json:
        typer.echo(orjson.dumps([report_json(each) for each in reports], option=orjson.OPT_INDENT_2).decode())
    else:
        print_reports(reports)
    if not all(each.holds for each in reports):
        raise typer.Exit(1)


@app.command()
def show(
    entry: Annotated[str | None, typer.Argument(help="Id of an entry, a decision or a request")] = None,
    data_dir: DataDir = None,
    org: Organization = None,
    case: Annotated[str | None, typer.Option("--case", help="Tell the whole story of a case, in order")] = None,
    json: Json = False,
    payload: Annotated[bool, typer.Option("--payload", help="Also open the vault: what the entry is about")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many of the latest entries")] = 20,
) -> None:
    """Show the latest entries, everything recorded under an id, or the whole story of a case."""
    if case is not None and entry is not None:
        raise typer.BadParameter("an id and --case cannot be used together", param_hint="--case")
    directory = _directory(data_dir)
    with _failing(), _database(directory) as conn:
        if conn is None:
            raise ProofError(f"{directory.database} does not exist")
        if case is not None:
            found = tell_case(conn, case, org)
            if not found:
                raise ProofError(f"no entry tells of a case {case}")
        elif entry is not None:
            found = find_entries(conn, entry, org)
            if not found:
                raise ProofError(f"no entry has the id {entry}")
        else:
            names = [org] if org is not None else [head.organization for head in read_heads(conn)]
            found = [(name, *each) for name in names for each in latest_entries(conn, name, limit)]
            found = sorted(found, key=lambda each: (read_entry(each[2])["t"], each[1]))[-limit:]
        records: list[Record] = [
            {"index": index, "entry": read_entry(leaf)}
            | ({"payloads": _payloads(conn, directory, name, read_entry(leaf)["id"])} if payload else {})
            for name, index, leaf in found
        ]
    if json:
        for record in records:
            if "payloads" in record:
                record["payloads"] = {name: payload_json(each) for name, each in record["payloads"].items()}
        typer.echo(orjson.dumps(records, option=orjson.OPT_INDENT_2).decode())
    elif entry is None and not payload:  # a list or a story
        print_table(records)
    else:
        for record in records:
            print_record(record)


@app.command(name="prove")
def prove_command(
    entry: Annotated[str, typer.Argument(help="Id of an entry, or its index (then --org)")],
    data_dir: DataDir = None,
    org: Organization = None,
    out: Annotated[Path | None, typer.Option(help="Write the proof there instead of printing it")] = None,
) -> None:
    """Write a C2SP tlog-proof: a file that shows offline, to anybody with the public key, that the entry is logged."""
    directory = _directory(data_dir)
    verifiers = _verifiers(None, directory)
    with _failing():
        name, index = _locate(directory, entry, org)
        published, origin = directory.published / name, origin_of(verifiers[0].name, name)
        until = time.monotonic() + PUBLISHED_WITHIN_S
        while True:
            try:
                proof = prove(published, verifiers, index, origin=origin).to_bytes()
                break
            except ProofError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
    if out is None:
        typer.echo(proof, nl=False)
    else:
        out.write_bytes(proof)
        typer.echo(
            f"{out}: entry {index} of {origin}; check it with `so8t audit verify-proof {out} --key {verifiers[0]}`"
        )


@app.command(name="verify-proof")
def verify_proof_command(
    file: Annotated[Path, typer.Argument(help="A tlog-proof file")],
    key: Annotated[list[str], typer.Option("--key", help="Public key of the log, `name+hash+base64`")],
    origin: Annotated[str | None, typer.Option(help="The log that it must be of")] = None,
    json: Json = False,
) -> None:
    """Check a proof offline; exit code 1 when it does not hold."""
    verifiers = _verifiers(key, None)
    with _failing():
        proof, checkpoint = verify_proof(_read(file), verifiers, origin=origin)
        record = {"index": proof.index, "entry": read_entry(proof.entry)}
    told = {"origin": checkpoint.origin, "size": checkpoint.size, "root": encode_base64(checkpoint.root)}
    if json:
        typer.echo(orjson.dumps({**record, "checkpoint": told}, option=orjson.OPT_INDENT_2).decode())
    else:
        print_record(record)
        typer.echo(f"holds: entry {proof.index} of {checkpoint.size} in {checkpoint.origin}")


def _directory(path: Path | None) -> DataDirectory:
    directory = locate(path)
    if not directory.path.is_dir():
        raise SettingsError(f"{directory.path} is not a data directory")
    return directory


def _verifiers(keys: list[str] | None, directory: DataDirectory | None) -> list[Verifier]:
    try:
        if keys or directory is None:
            return [Verifier.parse(key) for key in keys or []]
    except AuditError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from None
    return [directory.verifier()]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


@contextmanager
def _failing() -> Iterator[None]:
    """Tell what does not hold in a line, with exit code 1."""
    try:
        yield
    except AuditError as error:
        typer.echo(f"so8t: {error}", err=True)
        raise typer.Exit(1) from None
    except DBAPIError as error:
        typer.echo(f"so8t: the database cannot be read: {error.orig}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _engine(directory: DataDirectory) -> Iterator[Engine | None]:
    """Open the database for reading; None when only the published logs are here."""
    engine = open_reader(directory.database) if directory.database.is_file() else None
    try:
        yield engine
    finally:
        if engine is not None:
            engine.dispose()


@contextmanager
def _database(directory: DataDirectory) -> Iterator[Connection | None]:
    """Open one state of the database for reading; None when only the published logs are here."""
    with _engine(directory) as engine:
        if engine is None:
            yield None
            return
        with engine.connect() as conn:
            yield conn


def _organizations(database: Engine | None) -> set[str]:
    if database is None:
        return set()
    with database.connect() as conn:
        return {head.organization for head in read_heads(conn)}


def _locate(directory: DataDirectory, entry: str, org: str | None) -> tuple[str, int]:
    if entry.isdecimal():
        if org is None:
            raise typer.BadParameter("an index is one of a log: name it with --org")
        return org, int(entry)
    with _database(directory) as conn:
        found = [] if conn is None else find_entries(conn, entry, org)
    own = [(name, index) for name, index, leaf in found if read_entry(leaf)["id"] == entry]
    if own or found:
        return (own or [(name, index) for name, index, _ in found])[0]
    logs = sorted(directory.published.iterdir()) if directory.published.is_dir() else []
    for log in logs if conn is None else []:
        if org in (None, log.name) and (log / CHECKPOINT).is_file():
            checkpoint = Checkpoint.open(_read(log / CHECKPOINT), [directory.verifier()])
            index = find_published(log, checkpoint.size, entry)
            if index is not None:
                return log.name, index
    raise ProofError(f"no entry has the id {entry}")


def _payloads(conn: Connection, directory: DataDirectory, org: str, entry_id: str) -> dict[str, Opened]:
    wrapped = read_key(conn, org)
    sealed = read_payloads(conn, org, entry_id)
    if wrapped is None or not sealed:
        return {}
    key = directory.vault_key().unwrap(org, wrapped)
    return {each.name: key.open(each) for each in sealed}
