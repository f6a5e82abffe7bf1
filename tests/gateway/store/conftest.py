"""What the tests of the store need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.directory import DataDirectory
from gateway.store.store import Store


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    """Return an empty data directory."""
    return DataDirectory(tmp_path / "data")


@pytest.fixture
def store(directory: DataDirectory) -> Iterator[Store]:
    """Return an open store."""
    with Store(directory) as store:
        yield store
