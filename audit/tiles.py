"""C2SP tlog-tiles (c2sp.org/tlog-tiles): a log as static files, written durably and read back."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from audit.errors import FormatError
from audit.merkle import HASH_SIZE, fold

WIDTH: Final = 256
ENTRIES: Final = "entries"
CHECKPOINT: Final = "checkpoint"
Level = int | str
"""A level of hash tiles, from 0, or ``ENTRIES`` for the bundles of entries."""

_PATH: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


def tile_path(level: Level, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile below the log's prefix."""
    digits = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        digits = f"x{index % 1000:03}/{digits}"
    return f"tile/{level}/{digits}" + ("" if width == WIDTH else f".p/{width}")


def parse_path(path: str) -> tuple[Level, int, int] | None:
    """Return (level, index, width) of a tile's path, or None when it is none."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    level: Level = ENTRIES if found[1] == ENTRIES else int(found[1])
    index = int(found[2].replace("x", "").replace("/", ""))
    parsed = level, index, int(found[3]) if found[3] else WIDTH
    return parsed if tile_path(*parsed) == path and parsed[2] <= WIDTH else None


def tile_width(level: Level, index: int, size: int) -> int:
    """Return how many hashes (or entries) the tile has in a tree of ``size``; 0 or less when it does not exist."""
    below = size if isinstance(level, str) else size >> (8 * level)
    return min(WIDTH, below - index * WIDTH)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the entry bundle: each entry after its length as a big-endian uint16."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle; FormatError when it does not end where an entry ends."""
    entries, at, end = [], 0, len(data)
    while at < end:
        stop = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if stop > end or at + 2 > end:
            raise FormatError("the entry bundle ends inside an entry")
        entries.append(data[at + 2 : stop])
        at = stop
    return entries


def split_hashes(data: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    if len(data) % HASH_SIZE:
        raise FormatError("the tile ends inside a hash")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


class TileReader:
    """A published log of ``size`` entries in a directory. What it returns is unverified."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self.size = size
        self._cached = lru_cache(maxsize=64)(self._load)

    def hashes(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of a tile, as many as the tree's size asks for; FormatError when it is missing or short."""
        return self._cached(level, index)

    def _load(self, level: int, index: int) -> list[bytes]:
        width = tile_width(level, index, self.size)
        hashes = split_hashes(self.read(level, index))
        if not 0 < width <= len(hashes):
            raise FormatError(f"{tile_path(level, index, max(width, 1))} has {len(hashes)} hashes, not {width}")
        return hashes[:width]

    def entries(self, index: int) -> list[bytes]:
        """Return the entries of a bundle, as many as the tree's size asks for; FormatError as for ``hashes``."""
        width = tile_width(ENTRIES, index, self.size)
        entries = decode_bundle(self.read(ENTRIES, index))
        if not 0 < width <= len(entries):
            raise FormatError(f"{tile_path(ENTRIES, index, max(width, 1))} has {len(entries)} entries, not {width}")
        return entries[:width]

    def read(self, level: Level, index: int) -> bytes:
        """Return the bytes of the tile; of a full tile where the partial one was deleted."""
        width = tile_width(level, index, self.size)
        for each in dict.fromkeys((width, WIDTH)):
            try:
                return (self._directory / tile_path(level, index, each)).read_bytes()
            except FileNotFoundError:
                continue
        raise FormatError(f"{tile_path(level, index, width)} is missing")

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of the perfect subtree ``index`` at ``level`` (the ``Nodes`` of audit.merkle)."""
        tile_level, inside = divmod(level, 8)
        tile, start = divmod(index << inside, WIDTH)
        hashes = self.hashes(tile_level, tile)[start : start + (1 << inside)]
        if len(hashes) != 1 << inside:
            raise FormatError(f"the subtree {level}/{index} is not part of a tree of size {self.size}")
        return fold(hashes)


def write_durably(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` (by path below ``directory``) so that after the return a power cut loses none.

    Each is written aside, synced, and renamed into place; then every directory that changed is synced. A reader sees a
    file whole or not at all. Any OSError leaves the files of this call in an unknown state: write them all again.
    """
    changed: set[Path] = set()
    for path, data in files.items():
        target = directory / path
        _make(target.parent, changed)
        aside = target.with_name(f".{target.name}.tmp")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(target)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        changed.add(target.parent)
    for each in changed:
        sync_directory(each)


def _make(directory: Path, changed: set[Path]) -> None:
    if not directory.is_dir():
        _make(directory.parent, changed)
        directory.mkdir(exist_ok=True)
        changed.add(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
