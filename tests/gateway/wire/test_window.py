"""Nothing that is forbidden reaches a client before the judge saw it, whatever the pieces it comes in."""

import random
from collections.abc import Mapping

import pytest

from gateway.wire.window import Contract, Window, Windows

FORBIDDEN = "<forbidden thing>"
RUNS = 1000

Event = tuple[bytes, Mapping[int, str], bool]


def allowed(window: Window) -> bool:
    return not any(FORBIDDEN in text for text in window.texts.values())


def play(windows: Windows, events: list[Event], *, whole: bool = True) -> tuple[bytes, bool]:
    """Send events through; return what the client got and whether the judge stopped it."""
    passed = b""
    for data, texts, acts in events:
        passed += windows.add(data, texts, acts=acts)
        while (window := windows.due()) is not None:
            if not allowed(window):
                return passed, True
            passed += windows.allow(window)
    windows.end()
    if (window := windows.due()) is not None:
        if not whole or not allowed(window):
            return passed, True
        passed += windows.allow(window)
    return passed, False


def pieces(draw: random.Random, text: str, choice: int) -> list[Event]:
    found: list[Event] = []
    while text:
        cut = draw.randint(1, 12)
        found.append((f"[{choice}:{text[:cut]}]".encode(), {choice: text[:cut]}, False))
        text = text[cut:]
    return found


def said(passed: bytes, choice: int) -> str:
    text = passed.decode()
    return "".join(part.split(":", 1)[1] for part in text.split("]") if part.startswith(f"[{choice}:"))


def test_forbidden_text_never_begins_to_pass() -> None:
    for seed in range(RUNS):
        race(random.Random(seed))


def race(draw: random.Random) -> None:
    """Send a forbidden text in the first, the last or some piece of one of two choices, cut anywhere."""
    overlap = draw.randint(len(FORBIDDEN), 60)
    windows = Windows("window", size=overlap + draw.randint(1, 60), overlap=overlap)
    clean = "".join(draw.choice("abc de") for _ in range(draw.randint(0, 300)))
    place = draw.choice((0, len(clean), draw.randint(0, len(clean))))
    bad = draw.randint(0, 1)
    texts = [clean, clean]
    texts[bad] = clean[:place] + FORBIDDEN + clean[place:]
    streams = [pieces(draw, text, choice) for choice, text in enumerate(texts)]
    events = []
    while any(streams):
        events.append(draw.choice([stream for stream in streams if stream]).pop(0))
    passed, stopped = play(windows, events)
    assert stopped
    got = said(passed, bad)
    assert texts[bad].startswith(got)
    assert len(got) <= place


@pytest.mark.parametrize("contract", ["hold", "window", "full"])
@pytest.mark.parametrize("position", [0, 3, 6])
def test_an_action_and_what_follows_it_wait_for_the_end(contract: Contract, position: int) -> None:
    events: list[Event] = [(f"t{n}.".encode(), {0: "word " * 9}, False) for n in range(6)]
    events.insert(position, (b"CALL.", {1: ""}, True))
    windows = Windows(contract, size=40, overlap=10)
    passed, stopped = play(windows, events, whole=False)
    assert stopped
    assert windows.waits
    assert b"CALL" not in passed
    assert passed == b"".join(data for data, _, _ in events)[: len(passed)]
    if contract == "full":
        assert passed == b""
    if contract == "hold":
        assert passed == b"".join(data for data, _, _ in events[:position])


@pytest.mark.parametrize("contract", ["hold", "window", "full"])
def test_what_is_allowed_passes_whole_and_in_order(contract: Contract) -> None:
    draw = random.Random(5)
    events = [*pieces(draw, "some words " * 50, 0), (b"CALL", {0: ""}, True), (b"usage", {}, False)]
    passed, stopped = play(Windows(contract, size=90, overlap=20), events)
    assert not stopped
    assert passed == b"".join(data for data, _, _ in events)


def test_text_is_released_behind_the_judge_and_memory_stays_small() -> None:
    windows = Windows("window", size=100, overlap=20)
    events: list[Event] = [(b"x" * 10, {0: "y" * 10}, False)] * 1000
    longest = 0
    passed = 0
    for data, texts, acts in events:
        passed += len(windows.add(data, texts, acts=acts))
        while (window := windows.due()) is not None:
            longest = max(longest, len(window.texts[0]))
            passed += len(windows.allow(window))
    assert longest <= 110
    assert passed >= 10 * 1000 - 100


def test_sizes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Windows("window", size=10, overlap=10)
