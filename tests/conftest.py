"""What several test modules need."""

from collections.abc import Iterator

import pytest

from tests.doubles import UpstreamDouble


@pytest.fixture
def double() -> Iterator[UpstreamDouble]:
    """Run a real upstream."""
    with UpstreamDouble() as server:
        yield server
