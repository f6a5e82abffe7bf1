"""What the tests of the console need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.console.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a console that serves."""
    with World(tmp_path / "data") as world:
        yield world
