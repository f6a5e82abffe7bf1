"""What several test modules need."""

import os
from collections.abc import Generator, Iterator

import pytest

from tests.doubles import UpstreamDouble


@pytest.fixture
def double() -> Iterator[UpstreamDouble]:
    """Run a real upstream."""
    with UpstreamDouble() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what skips itself where ``SO8T_TESTS_FORBID_SKIP`` is set: a test that does not run proves nothing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SO8T_TESTS_FORBID_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped itself: {report.longrepr}"
    return report
