"""When a notice that could not be delivered is tried again."""

from dataclasses import dataclass
from random import Random
from typing import Final

LAST_CHANCE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """The waits between two tries, in seconds; afterwards every ``then_s``, or never again where that is None.

    Each wait is longer or shorter by a random part of up to ``jitter``, so that a thousand notices that failed together
    do not come back together.
    """

    waits_s: tuple[float, ...] = (5, 30, 120, 600, 1800)
    then_s: float | None = 3600
    jitter: float = 0.2

    def next_at(
        self, attempts: int, now: int, random: Random, *, until: int | None = None, after_s: float | None = None
    ) -> int | None:
        """Return when to try again after ``attempts`` tries, in milliseconds; None: there is no try left.

        ``until``: a try must come before it. As long as a minute is left, no wait is longer than half of what is left,
        so that somebody can still act. ``after_s`` is what the receiver asked for; it is never tried before.
        """
        asked = 0 if after_s is None else int(after_s * 1000)
        wait_s = self.waits_s[attempts - 1] if attempts <= len(self.waits_s) else self.then_s
        if wait_s is None:
            return None
        wait = int(wait_s * 1000 * random.uniform(1 - self.jitter, 1 + self.jitter))
        if until is not None and until - now > LAST_CHANCE_MS:
            wait = min(wait, (until - now) // 2)
        at = now + max(wait, asked)
        return at if until is None or at < until else None


OPENED: Final = Schedule()
"""For what must be known before its case is due."""
DECIDED: Final = Schedule(then_s=None)
"""For what nobody waits for."""
