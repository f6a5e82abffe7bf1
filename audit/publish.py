"""Publishing: the log as tlog-tiles below ``<directory>/<organisation>/``, under a signed checkpoint."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from audit.errors import AuditError, FormatError, MismatchError
from audit.log import Head, read_head, read_heads, read_leaves, store_checkpoint
from audit.merkle import CompactRange, fold, hash_leaf
from audit.note import Checkpoint, Signer
from audit.tiles import CHECKPOINT, ENTRIES, WIDTH, TileReader, encode_bundle, tile_path, write_durably

Transaction = Callable[[Callable[[Connection], bool]], bool]
"""Runs a function in a writing transaction and returns its result once that is durable."""

_FILES_AT_ONCE: Final = 256


def signer_name(gateway: str) -> str:
    """Return the name of the key that signs all logs of a gateway."""
    return f"{gateway}/audit"


def origin_of(signer: str, organization: str) -> str:
    """Return the origin line of an organisation's log, given the name of the key that signs it."""
    return f"{signer}/{organization}"


class _Tiling:
    """Turns entries into tile files; also recomputes what the database claims about them."""

    def __init__(self, base: CompactRange, reader: TileReader) -> None:
        self.range = base
        self._start = base.size
        self._bundle: list[bytes] = []
        self._levels: list[list[bytes]] = [[]]
        self.completed: list[str] = []
        for level in range(1, 8):
            count = base.size >> (8 * level)
            if not count:
                break
            self._levels.append(list(reader.hashes(level, count // WIDTH)) if count % WIDTH else [])

    def files(self, leaves: Iterator[tuple[int, bytes, bytes]], known: CompactRange) -> Iterator[tuple[str, bytes]]:
        """Yield (path, content) of every tile that ``leaves`` change; MismatchError where they contradict ``known``."""
        for index, leaf, stored in leaves:
            leaf_hash = hash_leaf(leaf)
            if leaf_hash != stored:
                raise MismatchError(f"entry {index} was altered in the database")
            self._bundle.append(leaf)
            self._levels[0].append(leaf_hash)
            if index >= self._start:
                self.range = self.range.extend((leaf_hash,))
                if self.range.size == known.size and self.range != known:
                    raise MismatchError(f"the first {known.size} entries in the database are not those published")
            if len(self._bundle) == WIDTH:
                yield self._complete(ENTRIES, index // WIDTH, encode_bundle(self._bundle))
                self._bundle = []
                yield from self._climb(index)
        if self._bundle:
            path = tile_path(ENTRIES, self.range.size // WIDTH, len(self._bundle))
            yield path, encode_bundle(self._bundle)
        for level, row in enumerate(self._levels):
            count = self.range.size >> (8 * level)
            if row and count != self._start >> (8 * level):
                yield tile_path(level, count // WIDTH, len(row)), b"".join(row)

    def _climb(self, index: int) -> Iterator[tuple[str, bytes]]:
        level = 0
        while len(self._levels[level]) == WIDTH:
            row = self._levels[level]
            yield self._complete(level, index >> (8 * (level + 1)), b"".join(row))
            self._levels[level] = []
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(fold(row))

    def _complete(self, level: int | str, index: int, content: bytes) -> tuple[str, bytes]:
        path = tile_path(level, index)
        self.completed.append(path)
        return path, content


def publish(reader: Engine, directory: Path, signer: Signer, origin: str, head: Head, commit: Transaction) -> bool:
    """Publish what the log has beyond its last checkpoint; return whether there was anything.

    Order: tiles, then the checkpoint in the database (compare-and-swap), then the checkpoint file: a crash in between
    leaves a published log that holds and a next call that finishes. MismatchError when the database contradicts what
    was published; then nothing is signed.
    """
    file = directory / CHECKPOINT
    if head.checkpoint is not None and head.published.size == head.current.size and file.is_file():
        if file.read_bytes() == head.checkpoint.encode():
            return False
        write_durably(directory, {CHECKPOINT: head.checkpoint.encode()})
        return True
    base = head.published if file.is_file() else CompactRange()
    tiling = _Tiling(base, TileReader(directory, base.size))
    with reader.connect() as conn:  # closed before `commit`: an open reader can keep the writer from checkpointing
        leaves = read_leaves(conn, head.organization, base.size // WIDTH * WIDTH, head.current.size)
        for some in batched_files(tiling.files(leaves, head.published)):
            write_durably(directory, some)
    if tiling.range != head.current:
        raise MismatchError(f"the head of the log of `{head.organization}` does not fit its entries")
    note = signer.sign(Checkpoint(origin, tiling.range.size, tiling.range.root).text())
    if not commit(lambda writing: store_checkpoint(writing, head, tiling.range, note.decode())):
        return False
    write_durably(directory, {CHECKPOINT: note})
    for path in tiling.completed:
        shutil.rmtree(directory / f"{path}.p", ignore_errors=True)
    return True


def batched_files(files: Iterator[tuple[str, bytes]]) -> Iterator[dict[str, bytes]]:
    """Yield ``files`` in portions that fit into memory."""
    while some := dict(file for _, file in zip(range(_FILES_AT_ONCE), files, strict=False)):
        yield some


def check_published(conn: Connection, directory: Path, signer: Signer, origin: str, organization: str) -> None:
    """Raise MismatchError unless the database continues what was published in ``directory``.

    Recomputes from the last published size on. An older database, another history and an unknown key are all refused;
    a missing directory is not: it is published anew from the database.
    """
    head = read_head(conn, organization)
    shown = _published(directory, signer, origin)
    if head is None:
        if shown is not None:
            raise MismatchError(f"the published log of `{organization}` has {shown.size} entries, the database none")
        return
    if shown is not None and shown.size > head.current.size:
        raise MismatchError(
            f"the published log of `{organization}` has {shown.size} entries, the database only {head.current.size}: "
            "it is an older copy"
        )
    stored = head.checkpoint and Checkpoint.open(head.checkpoint.encode(), [signer.verifier], origin)
    if stored and (stored.size, stored.root) != (head.published.size, head.published.root):
        raise MismatchError(f"the database contradicts the checkpoint that it stores for `{organization}`")
    grown = head.published
    for index, leaf, stored_hash in read_leaves(conn, organization, grown.size, head.current.size):
        if hash_leaf(leaf) != stored_hash:
            raise MismatchError(f"entry {index} of `{organization}` was altered in the database")
        grown = grown.extend((stored_hash,))
    if grown != head.current:
        raise MismatchError(f"the head of the log of `{organization}` does not fit its entries")
    if shown is None:
        return
    same = head.published
    if shown.size != same.size:
        hashes = (hash_leaf(leaf) for _, leaf, _ in read_leaves(conn, organization, 0, shown.size))
        same = CompactRange().extend(hashes)
    if same.root != shown.root:
        raise MismatchError(f"the database and the published log of `{organization}` have different histories")


def _published(directory: Path, signer: Signer, origin: str) -> Checkpoint | None:
    try:
        note = (directory / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Checkpoint.open(note, [signer.verifier], origin)
    except AuditError as error:
        raise MismatchError(f"{directory / CHECKPOINT}: {error}") from None


class Publisher:
    """Publishes every log of a gateway, at the latest ``2 * interval_s`` after an entry became durable.

    ``problem`` says why the last attempt failed, None when all is published. It tries again, except after a
    contradiction: then it signs nothing any more.
    """

    def __init__(
        self, reader: Engine, directory: Path, signer: Signer, commit: Transaction, *, interval_s: float = 0.4
    ) -> None:
        self.problem: str | None = None
        self._reader = reader
        self._directory = directory
        self._signer = signer
        self._commit = commit
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-publisher", daemon=True)

    def check(self) -> None:
        """Raise MismatchError unless the database continues everything that was published (run before serving)."""
        with self._reader.connect() as conn:
            names = {head.organization for head in read_heads(conn)}
            if self._directory.is_dir():
                names |= {each.name for each in self._directory.iterdir() if (each / CHECKPOINT).is_file()}
            for name in sorted(names):
                check_published(conn, self._directory / name, self._signer, self._origin(name), name)

    def start(self) -> None:
        """Publish from now on."""
        self._thread.start()

    def publish(self) -> None:
        """Publish everything that is durable now; MismatchError, FormatError or OSError when that fails."""
        with self._reader.connect() as conn:
            heads = read_heads(conn)
        for head in heads:
            name = head.organization
            publish(self._reader, self._directory / name, self._signer, self._origin(name), head, self._commit)

    def close(self) -> None:
        """Publish the last entries and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        elif self.problem is None:
            self._attempt()

    def _origin(self, organization: str) -> str:
        return origin_of(self._signer.verifier.name, organization)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s) and self._attempt():
            pass
        if self._stop.is_set():
            self._attempt()

    def _attempt(self) -> bool:
        try:
            self.publish()
        except MismatchError as error:
            self.problem = str(error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and tried again
            hint = (
                f" ({self._directory} can be deleted: it is published anew)" if isinstance(error, FormatError) else ""
            )
            self.problem = f"{type(error).__name__}: {error}{hint}"
        else:
            self.problem = None
        return True
