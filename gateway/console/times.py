"""Moments and spans for people."""

from datetime import UTC, datetime
from typing import Final

from gateway.console.texts import Say

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def date(moment: int) -> str:
    """Return a moment (milliseconds since the epoch) as ``2026-11-24 19:40 UTC``."""
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def span(say: Say, milliseconds: int) -> str:
    """Return how far away a moment is: ``in 12 min``, ``3 h ago``."""
    size = abs(milliseconds)
    if size < _MINUTE:
        return say("time.now")
    if size < 2 * _HOUR:
        told = say("time.minutes", count=size // _MINUTE)
    elif size < 2 * _DAY:
        told = say("time.hours", count=size // _HOUR)
    else:
        told = say("time.days", count=size // _DAY)
    return say("time.in" if milliseconds > 0 else "time.ago", span=told)
