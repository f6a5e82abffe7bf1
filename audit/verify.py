"""Verifying: everything is recomputed from the published bytes.

Shares only pure format code (merkle, note, tiles) and the tables with the writer.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, select

from audit.errors import AuditError, FormatError, ProofError
from audit.merkle import EMPTY_ROOT, CompactRange, fold, hash_leaf, root_hash
from audit.note import Checkpoint, Verifier
from audit.tables import audit_leaf, log_head
from audit.tiles import CHECKPOINT, ENTRIES, WIDTH, Level, TileReader, encode_bundle, parse_path, tile_path, tile_width

MAX_FINDINGS: Final = 100
FIRST_CHECKPOINT_S: Final = 2.0
"""How long the file of a first checkpoint may lag behind the database while a gateway is at work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold. ``index`` is the first entry that it concerns, None for the log as a whole."""

    index: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one verification; it holds when there is no finding.

    ``entries`` is the number of entries in the database (None when it was not compared); those beyond ``size`` were
    durable and not yet published.
    """

    organization: str
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    entries: int | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def first_index(self) -> int | None:
        """The first entry that a finding concerns."""
        return min((each.index for each in self.findings if each.index is not None), default=None)


def verify_log(
    directory: Path,
    verifiers: Sequence[Verifier],
    *,
    organization: str,
    origin: str | None = None,
    database: Engine | None = None,
    since: bytes | None = None,
) -> Report:
    """Recompute a published log and report every contradiction, at most 100.

    Checks: the checkpoint's signature and origin; each entry bundle against its leaf hashes, those against every tile
    on every level, all files of a tile against each other, and the root. With ``database``, that it holds exactly these
    entries and continues them. With ``since``, an earlier checkpoint, that the log only grew since then.

    A gateway may be at work meanwhile. A checkpoint that the database has and the file has not yet (the gateway died in
    between, or is at work) is checked in place of the file's: its tiles were durable before it.
    """
    until = time.monotonic() + FIRST_CHECKPOINT_S
    while True:
        try:
            shown = _shown(directory, verifiers, origin)  # before the database is looked at, which only grows
            with database.connect() if database is not None else nullcontext() as conn:
                checkpoint = _newest(shown, conn, verifiers, origin, organization)
                if checkpoint is not None:
                    return _verify(directory, verifiers, organization, checkpoint, conn, since)
        except AuditError as error:
            return Report(organization, 0, b"", (Finding(None, f"the checkpoint is not valid: {error}"),))
        if database is None or time.monotonic() > until:
            return Report(organization, 0, b"", (Finding(None, f"{directory / CHECKPOINT} is missing"),))
        time.sleep(0.1)


def _shown(directory: Path, verifiers: Sequence[Verifier], origin: str | None) -> Checkpoint | None:
    try:
        note = (directory / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None
    return Checkpoint.open(note, verifiers, origin)


def _newest(
    shown: Checkpoint | None,
    conn: Connection | None,
    verifiers: Sequence[Verifier],
    origin: str | None,
    organization: str,
) -> Checkpoint | None:
    """Return the checkpoint to check: the file's, or the database's when that is newer; None when the file is missing.

    A log that was never published has the empty one.
    """
    row = None
    if conn is not None:
        row = conn.execute(select(log_head.c.checkpoint).where(log_head.c.org == organization)).first()
    if row is None:
        return shown
    if row[0] is None:
        return shown or Checkpoint("", 0, EMPTY_ROOT)
    stored = Checkpoint.open(row[0].encode(), verifiers, origin)
    return stored if shown is not None and stored.size > shown.size else shown


def _verify(
    directory: Path,
    verifiers: Sequence[Verifier],
    organization: str,
    checkpoint: Checkpoint,
    conn: Connection | None,
    since: bytes | None,
) -> Report:
    run = _Run(directory, checkpoint)
    run.tiles(_Rows(conn, organization, run) if conn is not None else None)
    if since is not None:
        run.earlier(since, verifiers)
    entries = run.database(conn, organization) if conn is not None else None
    return Report(organization, checkpoint.size, checkpoint.root, tuple(run.findings), entries)


class _Run:
    """One verification."""

    def __init__(self, directory: Path, checkpoint: Checkpoint) -> None:
        self.directory = directory
        self.checkpoint = checkpoint
        self.findings: list[Finding] = []
        self.range = CompactRange()
        self._reader = TileReader(directory, checkpoint.size)
        self._widths: dict[tuple[Level, int], list[int]] = {}
        for path in sorted(each.relative_to(directory).as_posix() for each in directory.rglob("*") if each.is_file()):
            name = path.rpartition("/")[2]
            parsed = parse_path(path)
            if parsed is not None:
                self._widths.setdefault(parsed[:2], []).append(parsed[2])
            elif path != CHECKPOINT and not (name.startswith(".") and name.endswith(".tmp")):
                self.found(None, f"{path} does not belong to a log")

    def found(self, index: int | None, what: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(index, what))

    def tiles(self, rows: "_Rows | None") -> None:
        """Recompute everything below the checkpoint."""
        size = self.checkpoint.size
        row: list[bytes] = []
        for index in range((size + WIDTH - 1) // WIDTH):
            width = tile_width(ENTRIES, index, size)
            try:
                entries = self._reader.entries(index)
            except FormatError as error:
                self.found(index * WIDTH, str(error))
                return
            self._files(ENTRIES, index, [entry_bytes(each) for each in entries], size)
            hashes = [hash_leaf(entry) for entry in entries]
            self.range = self.range.extend(hashes)
            self._files(0, index, hashes, size)
            if rows is not None:
                rows.compare(index * WIDTH, entries, hashes)
            if width == WIDTH:
                row.append(fold(hashes))
        level = 1
        while row:
            above = []
            for index in range((len(row) + WIDTH - 1) // WIDTH):
                hashes = row[index * WIDTH : (index + 1) * WIDTH]
                self._files(level, index, hashes, size)
                if len(hashes) == WIDTH:
                    above.append(fold(hashes))
            level, row = level + 1, above
        if self.range.root != self.checkpoint.root:
            self.found(None, "the entries do not give the root that was signed")

    def _files(self, level: Level, index: int, items: list[bytes], size: int) -> None:
        """Compare every file of a tile with what it must hold: a prefix of ``items``."""
        widths = self._widths.get((level, index), [])
        first = index * WIDTH * (1 if isinstance(level, str) else WIDTH**level)
        if not {len(items), WIDTH} & set(widths):
            self.found(first, f"{tile_path(level, index, len(items))} is missing")
        content = b"".join(items)
        for width in widths:
            try:
                data = (self.directory / tile_path(level, index, width)).read_bytes()
            except FileNotFoundError:
                continue  # a running gateway replaced the partial tile by the full one
            expected = content if width == len(items) else b"".join(items[:width])
            if width > len(items):
                data = data[: len(expected)]
            if data != expected:
                at = _first_difference(data, items)
                span = 1 if isinstance(level, str) else WIDTH**level
                self.found(first + at * span, f"{tile_path(level, index, width)} differs from the entries")

    def earlier(self, note: bytes, verifiers: Iterable[Verifier]) -> None:
        """Check that the log contains the log of an earlier checkpoint."""
        try:
            old = Checkpoint.open(note, verifiers, self.checkpoint.origin)
            if old.size > self.checkpoint.size:
                raise ProofError(f"the log has {self.checkpoint.size} entries, and had {old.size}")
            if root_hash(old.size, self._reader.node) != old.root:
                raise ProofError(f"the first {old.size} entries are not what they were")
        except AuditError as error:
            self.found(None, f"against the earlier checkpoint: {error}")

    def database(self, conn: Connection, organization: str) -> int:
        """Check what the database has beyond the checkpoint, and its head; return the number of its entries."""
        head = conn.execute(select(log_head).where(log_head.c.org == organization)).first()
        if head is None:
            self.found(None, "the database has no such log")
            return 0
        grown = self.range
        size = self.checkpoint.size
        for index, leaf, leaf_hash in _leaves(conn, organization, size):
            if index != grown.size or hash_leaf(leaf) != leaf_hash:
                self.found(grown.size, f"entry {grown.size} is missing or altered in the database")
                break
            grown = grown.extend((leaf_hash,))
        else:
            if (head.size, head.compact_range) != (grown.size, grown.to_bytes()):
                self.found(None, "the head in the database does not fit the entries")
        return int(head.size)


class _Rows:
    """The database's entries below the checkpoint, compared bundle by bundle up to the first that differs."""

    def __init__(self, conn: Connection, organization: str, run: _Run) -> None:
        self._rows: Iterator[Any] | None = _leaves(conn, organization, 0, run.checkpoint.size)
        self._run = run

    def compare(self, start: int, entries: list[bytes], hashes: list[bytes]) -> None:
        if self._rows is None:
            return
        for index, (entry, leaf_hash) in enumerate(zip(entries, hashes, strict=True), start):
            row = next(self._rows, None)
            if row is None or row[0] != index:
                what = f"entry {index} is missing from the database"
            elif row[1] != entry or row[2] != leaf_hash:
                what = f"entry {index} in the database is not the one published"
            else:
                continue
            self._run.found(index, what)
            self._rows = None
            return


def _leaves(conn: Connection, organization: str, start: int, end: int | None = None) -> Iterator[Any]:
    query = select(audit_leaf.c.idx, audit_leaf.c.leaf, audit_leaf.c.leaf_hash)
    query = query.where(audit_leaf.c.org == organization, audit_leaf.c.idx >= start).order_by(audit_leaf.c.idx)
    if end is not None:
        query = query.where(audit_leaf.c.idx < end)
    return iter(conn.execution_options(yield_per=1024).execute(query))


def entry_bytes(entry: bytes) -> bytes:
    """Return one entry as it stands in a bundle."""
    return encode_bundle([entry])


def _first_difference(data: bytes, items: list[bytes]) -> int:
    at = 0
    for position, item in enumerate(items):
        if data[at : at + len(item)] != item:
            return position
        at += len(item)
    return len(items) - 1
