"""The schedule: waits grow, are jittered, honour the receiver, and leave a chance before the case is due."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.escalation.schedule import DECIDED, LAST_CHANCE_MS, OPENED, Schedule

STILL = Schedule(jitter=0)


@pytest.mark.parametrize(
    ("attempts", "wait_s"), [(1, 5), (2, 30), (3, 120), (4, 600), (5, 1800), (6, 3600), (50, 3600)]
)
def test_the_waits(attempts: int, wait_s: int) -> None:
    assert STILL.next_at(attempts, 1000, Random(1)) == 1000 + wait_s * 1000


def test_what_nobody_waits_for_ends() -> None:
    assert DECIDED.next_at(5, 0, Random(1)) is not None
    assert DECIDED.next_at(6, 0, Random(1)) is None


def test_no_wait_skips_the_last_chance_before_the_case_is_due() -> None:
    assert STILL.next_at(5, 0, Random(1), until=1_000_000) == 500_000
    assert STILL.next_at(6, 940_001, Random(1), until=1_000_000) is None


def test_what_the_receiver_asks_for_is_never_cut_short() -> None:
    assert STILL.next_at(1, 0, Random(1), after_s=77) == 77_000
    assert STILL.next_at(1, 0, Random(1), until=70_000, after_s=77) is None


@given(
    attempts=st.integers(1, 100),
    left=st.integers(0, 10**8),
    after_s=st.none() | st.floats(0, 10**5),
    seed=st.integers(0, 2**32),
)
def test_each_wait_is_in_its_bounds(attempts: int, left: int, after_s: float | None, seed: int) -> None:
    at = OPENED.next_at(attempts, 0, Random(seed), until=left, after_s=after_s)
    wait = 1000 * (OPENED.waits_s[attempts - 1] if attempts <= 5 else 3600)
    asked = int((after_s or 0) * 1000)
    if at is None:
        assert asked >= left or left <= max(LAST_CHANCE_MS, 1.2 * wait)
    else:
        assert asked <= at < left
        assert at <= max(asked, 1.2 * wait)
        assert at >= min(0.8 * wait, left // 2) - 1
