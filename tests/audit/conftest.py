"""What the tests of the audit log need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.logs import Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """Return an empty log."""
    log = Log(tmp_path)
    yield log
    log.close()
