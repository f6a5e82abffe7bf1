"""tlog-tiles: paths and contents as the specification says, and files that are whole or absent."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import FormatError
from audit.merkle import fold, hash_leaf
from audit.tiles import (
    ENTRIES,
    TileReader,
    decode_bundle,
    encode_bundle,
    parse_path,
    split_hashes,
    tile_path,
    tile_width,
    write_durably,
)


def test_paths_are_those_of_the_specification() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(3, 0, 17) == "tile/3/000.p/17"
    assert tile_path(ENTRIES, 1000) == "tile/entries/x001/000"


@given(st.one_of(st.integers(0, 63), st.just(ENTRIES)), st.integers(0, 10**12), st.integers(1, 256))
def test_every_path_is_read_back(level: int | str, index: int, width: int) -> None:
    assert parse_path(tile_path(level, index, width)) == (level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint",
        "tile/0/0",
        "tile/00/000",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/300",
    ],
)
def test_what_is_no_path_of_a_tile_is_not_taken_for_one(path: str) -> None:
    assert parse_path(path) is None


def test_a_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    widths = {level: [tile_width(level, index, 70_000) for index in range(300)] for level in range(4)}
    assert (widths[0].count(256), widths[0][273]) == (273, 112)
    assert (widths[1].count(256), widths[1][1]) == (1, 17)
    assert widths[2][0] == 1
    assert widths[3][0] == 0


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_is_read_back(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    with suppress(FormatError):
        assert encode_bundle(decode_bundle(data)) == data


def test_half_a_hash_is_refused() -> None:
    with pytest.raises(FormatError):
        split_hashes(bytes(33))


def test_files_are_replaced_whole_and_leave_nothing_beside(tmp_path: Path) -> None:
    write_durably(tmp_path, {"tile/0/x001/000": b"one", "checkpoint": b"old"})
    write_durably(tmp_path, {"checkpoint": b"new"})
    files = {each.relative_to(tmp_path).as_posix(): each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    assert files == {"tile/0/x001/000": b"one", "checkpoint": b"new"}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_durably(tmp_path, {"checkpoint": b"old"})
    (tmp_path / ".checkpoint.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_durably(tmp_path, {"checkpoint": b"new"})
    assert (tmp_path / "checkpoint").read_bytes() == b"old"


def test_a_partial_tile_is_served_by_the_full_one_when_it_is_gone(tmp_path: Path) -> None:
    hashes = [hash_leaf(bytes([at])) for at in range(256)]
    write_durably(tmp_path, {tile_path(0, 0): b"".join(hashes)})
    reader = TileReader(tmp_path, 10)
    assert reader.hashes(0, 0) == hashes[:10]
    assert reader.node(3, 0) == fold(hashes[:8])
    with pytest.raises(FormatError):
        reader.node(3, 1)
    with pytest.raises(FormatError):
        reader.hashes(0, 1)


def test_a_short_tile_is_refused(tmp_path: Path) -> None:
    write_durably(tmp_path, {tile_path(0, 0, 3): bytes(64), tile_path(ENTRIES, 0, 3): encode_bundle([b"a"])})
    reader = TileReader(tmp_path, 3)
    with pytest.raises(FormatError, match="2 hashes, not 3"):
        reader.hashes(0, 0)
    with pytest.raises(FormatError, match="1 entries, not 3"):
        reader.entries(0)
