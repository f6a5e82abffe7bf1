"""The policies in force: swapped whole when files change, and kept when what changed is wrong."""

from pathlib import Path

from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle, Files, build_bundle, read_files


class PolicyStore:
    """Holds the bundle in force. Whoever reads ``current`` keeps one whole bundle.

    ``changed`` and ``reload`` read files: call them from one thread that may wait, by the application's own clock.

    Raises PolicyError: the first bundle is wrong; there is no last good one to keep.
    """

    def __init__(self, directory: Path | None, base: Path | None = None) -> None:
        self._directories = [directory] if directory is not None else []
        self._base = base
        self._seen: Files | PolicyError = read_files(self._directories, base)
        self._current = build_bundle(self._seen)

    @property
    def current(self) -> Bundle:
        """The last bundle that was right."""
        return self._current

    def changed(self) -> bool:
        """Tell whether the files are others than at the last look of ``reload``, by their content."""
        return not _same(self._look(), self._seen)

    def reload(self) -> tuple[str, ...]:
        """Take what the files hold now, or return their problems and keep what is in force."""
        found = self._seen = self._look()
        if isinstance(found, PolicyError):
            return found.problems
        try:
            self._current = build_bundle(found)
        except PolicyError as error:
            return error.problems
        return ()

    def _look(self) -> Files | PolicyError:
        try:
            return read_files(self._directories, self._base)
        except PolicyError as error:
            return error


def _same(one: Files | PolicyError, other: Files | PolicyError) -> bool:
    if isinstance(one, PolicyError) and isinstance(other, PolicyError):
        return one.problems == other.problems
    return one == other
