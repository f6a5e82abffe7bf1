"""How often somebody may fail to sign in."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 300.0
PER_NAME: Final = 10
PER_ADDRESS: Final = 30
_CAPACITY: Final = 10_000


class Throttle:
    """Counts failures by name and by address; full for ``window_s`` seconds after too many of either.

    In memory of one process: at most ``capacity`` names and addresses, the longest unused are forgotten.
    """

    def __init__(
        self,
        *,
        per_name: int = PER_NAME,
        per_address: int = PER_ADDRESS,
        window_s: float = WINDOW_S,
        capacity: int = _CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = {"name": per_name, "address": per_address}
        self._window_s = window_s
        self._capacity = capacity
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def wait_s(self, name: str, address: str) -> float:
        """Return the seconds until another try is allowed; 0 when it is now."""
        return max(self._wait_s("name", name), self._wait_s("address", address))

    def fail(self, name: str, address: str) -> None:
        """Count a try. Called before the password is looked at, so that tries in parallel count too."""
        for kind, value in (("name", name), ("address", address)):
            failures = self._failures.setdefault((kind, value), deque(maxlen=self._limits[kind]))
            failures.append(self._clock())
            self._failures.move_to_end((kind, value))
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)

    def succeed(self, name: str, address: str) -> None:
        """Take back the last try, which was right, and forget the name's failures."""
        self._failures.pop(("name", name), None)
        failures = self._failures.get(("address", address))
        if failures:
            failures.pop()

    def _wait_s(self, kind: str, value: str) -> float:
        failures = self._failures.get((kind, value))
        if failures is None or len(failures) < self._limits[kind]:
            return 0.0
        return max(0.0, failures[0] + self._window_s - self._clock())
