"""``so8t policy replay``: a bundle against the recorded past, on all cores."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer

from gateway.cli.policy_files import BaseFlag, DataFlag, JsonFlag, existing
from gateway.errors import SettingsError
from gateway.policy.bundle import Bundle, build_bundle, read_files
from gateway.policy.picture import draw_bars
from gateway.policy.replay import COLUMNS, Player, Report, plain, ranked, replay, rows_of

SMALL: Final = 50_000
"""Rows that one process replays faster than several start."""


def replay_command(
    path: Annotated[Path, typer.Argument(help="The new policy, or a directory of policies.")],
    data_dir: DataFlag = None,
    base: BaseFlag = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organisation's decisions.")] = None,
    days: Annotated[float | None, typer.Option("--days", min=0, help="Only the last so many days.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw the flips into this SVG file.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes [default: one a core].")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Decide the recorded past again by another policy, and tell what it would have decided otherwise."""
    existing([path], base)
    report = replay_recorded(path, None, base, data_dir, org=org, days=days, workers=workers)
    if picture is not None:
        picture.write_text(draw(report, str(path)), encoding="utf-8")
    if as_json:
        typer.echo(orjson.dumps(plain(report)))
    else:
        for line in tell(report):
            typer.echo(line)


def replay_recorded(
    new: Path,
    old: Path | None,
    base: Path | None,
    data_dir: Path | None,
    *,
    org: str | None = None,
    days: float | None = None,
    workers: int | None = None,
) -> Report:
    """Return how the bundle ``new`` decides the recorded past otherwise than ``old``, or than what was recorded.

    A file decides for its own organisation; a directory for all, by the base where an organisation has no file.

    Raises PolicyError, SettingsError.
    """
    import time

    from gateway.store.directory import locate
    from gateway.store.engine import open_reader
    from gateway.store.inputs import extent, owners

    database = locate(data_dir).database
    if not database.is_file():
        raise SettingsError(f"there is no gateway's database in {database.parent}; name it with --data-dir")
    bundle = build_bundle(read_files([new], base))
    if new.is_file():
        org = next(iter(bundle.policies))
    engine = open_reader(database)
    try:
        with engine.connect() as conn:
            low, high = extent(conn)
            known = owners(conn)
    finally:
        engine.dispose()
    since = 0 if days is None else int((time.time() - days * 86400) * 1000)
    count = high - low + 1
    share = max(1, workers or os.cpu_count() or 1) if count > SMALL else 1
    bounds = [low + count * index // share for index in range(share + 1)]
    jobs = [(database, new, old, base, org, since, known, begin, end - 1) for begin, end in pairwise(bounds)]
    report = Report()
    if share == 1:
        report.join(_work(jobs[0]))
        return report
    with ProcessPoolExecutor(share, multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_work, jobs):
            report.join(part)
    return report


def _work(job: tuple[Path, Path, Path | None, Path | None, str | None, int, dict[str, str], int, int]) -> Report:
    from gateway.store.inputs import read_columns

    database, new, old, base, org, since, known, low, high = job
    after = _Players(build_bundle(read_files([new], base)), known)
    before = _Players(build_bundle(read_files([old], base)), known) if old is not None else None
    report = Report()
    for columns in read_columns(database, COLUMNS, low, high, organization=org, since=since):
        for name in dict.fromkeys(columns["org"]):
            rows = (row for row in rows_of(columns) if row["org"] == name)
            report.join(replay(rows, after.of(name), before.of(name) if before else None))
    return report


class _Players:
    """One player for each organisation of a bundle."""

    def __init__(self, bundle: Bundle, owners: dict[str, str]) -> None:
        self._bundle = bundle
        self._owners = owners
        self._players: dict[str, Player] = {}

    def of(self, organization: str) -> Player:
        if organization not in self._players:
            self._players[organization] = Player(self._bundle.policy(organization), self._owners)
        return self._players[organization]


def tell(report: Report) -> Iterator[str]:
    """Yield the report in lines for people."""
    yield f"{report.total:,} recorded decisions, {report.total - report.skipped:,} replayed, {report.flipped:,} flip"
    if report.skipped:
        yield f"{report.skipped:,} hang on arguments of tool calls, which are not kept: not replayable"
    if report.moved:
        yield f"{report.moved:,} keep their effect in another domain"
    for (before, after), flips in ranked(report.flips):
        yield f"  {before} -> {after}  {flips.count:,}  such as {', '.join(flips.examples)}"
    for title, found in (("by rule", report.rules), ("by domain", report.domains), ("by key", report.keys)):
        if found:
            yield title
        for name, flips in ranked(found)[:10]:
            yield f"  {flips.count:>9,}  {name}  such as {flips.examples[0]}"


def draw(report: Report, name: str) -> str:
    """Return the picture of a report."""
    groups: dict[str, list[tuple[str, int]]] = {
        "Decisions that flip": [(f"{one} to {other}", flips.count) for (one, other), flips in ranked(report.flips)]
    }
    for title, found in (("By rule", report.rules), ("By domain", report.domains), ("By key", report.keys)):
        groups[title] = [(str(key), flips.count) for key, flips in ranked(found)[:10]]
    return draw_bars(f"{name}: {report.flipped:,} of {report.total:,} decisions flip", groups)
