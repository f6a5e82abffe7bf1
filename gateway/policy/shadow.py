"""A second bundle beside the first: seen before it counts, for a growing share of keys, taken back at once.

The shadow's files are in ``shadow/`` inside the directory of policies, which the first bundle does not read. How many
percent of the keys it decides for stands in ``shadow/stage``; without that file for none: it is only recorded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.decision import Decision
from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle
from gateway.policy.engine import Facts, decide
from gateway.policy.reload import PolicyStore
from gateway.policy.replay import Report

FOLDER: Final = "shadow"
STAGE: Final = "stage"


@dataclass(frozen=True, slots=True)
class Both:
    """The decision that is enforced, the one of the bundle in force, and the one of the shadow."""

    decision: Decision
    current: Decision
    shadow: Decision

    @property
    def acted(self) -> str:
        """``shadow`` where the shadow's decision is enforced, else ``current``."""
        return "shadow" if self.decision is self.shadow else "current"


def staged(organization: str, key: str, percent: float) -> bool:
    """Tell whether a key is among the ``percent`` for which the shadow decides.

    By a hash of the key, so that it stays the same, and a larger share holds every key of a smaller one.
    """
    number = int.from_bytes(sha256(f"{organization}/{key}".encode()).digest()[:8])
    return number < percent / 100 * 2**64


def decide_both(current: Bundle, shadow: Bundle, percent: float, facts: Facts, *, decision_id: str) -> Both:
    """Return what both bundles decide about ``facts``, which need a principal. The shadow never raises either."""
    if facts.principal is None:
        raise ValueError("a shadow needs a principal")
    organization = facts.principal.organization
    first = decide(current.policy(organization), facts, decision_id=decision_id)
    second = decide(shadow.policy(organization), facts, decision_id=decision_id)
    return Both(second if staged(organization, facts.principal.key_id, percent) else first, first, second)


class ShadowStore:
    """The shadow of a directory of policies, while it has one. ``percent`` is the share of keys it decides for.

    A shadow that is wrong is none: nothing is decided by it until it is mended. Call from one thread, as PolicyStore.
    """

    def __init__(self, directory: Path, base: Path | None = None, *, release: str | None = None) -> None:
        self._folder = directory / FOLDER
        self._base = base
        self._release = release
        self._store: PolicyStore | None = None
        self.percent = 0.0
        self.problems: tuple[str, ...] = ()
        self.reload()

    @property
    def current(self) -> Bundle | None:
        """The bundle that decides beside the first; None: there is none, or it is wrong."""
        return self._store.current if self._store is not None and not self.problems else None

    def changed(self) -> bool:
        """Tell whether files or stage are others than at the last ``reload``."""
        if self._folder.is_dir() is (self._store is None):
            return True
        return self._store is not None and (self._store.changed() or read_stage(self._folder) != self.percent)

    def reload(self) -> tuple[str, ...]:
        """Take what is there now; return its problems."""
        self.percent = 0.0
        if not self._folder.is_dir():
            self._store, self.problems = None, ()
            return ()
        try:
            if self._store is None:
                self._store = PolicyStore(self._folder, self._base, release=self._release)
                self.problems = ()
            else:
                self.problems = self._store.reload()
            if not self.problems:
                self.percent = read_stage(self._folder)
        except PolicyError as error:
            self.problems = error.problems
        return self.problems


def read_stage(folder: Path) -> float:
    """Return the percentage in the stage file of ``folder``; 0 without one, or for anything but a number to 100."""
    try:
        percent = float((folder / STAGE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
    return percent if 0 <= percent <= 100 else 0.0


def write_stage(folder: Path, percent: float) -> None:
    """Set the percentage of ``folder``: at once or not at all."""
    fresh = folder / f".{STAGE}"
    fresh.write_text(f"{percent:g}\n", encoding="utf-8")
    fresh.replace(folder / STAGE)


def shadow_report(rows: Iterable[Mapping[str, Any]]) -> Report:
    """Return how the shadow decided recorded rows otherwise than the bundle in force."""
    report = Report()
    for row in rows:
        report.total += 1
        before = (row["effect"], row["decided_domain"], tuple(orjson.loads(row["reasons"])))
        after = (row["shadow_effect"], row["decided_domain"], tuple(orjson.loads(row["shadow_reasons"])))
        report.add(row["decision_id"], row["key_id"], before, after)
    return report
