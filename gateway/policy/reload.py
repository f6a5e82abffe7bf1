"""The policies in force: swapped whole when files change, and kept when what changed is wrong."""

from dataclasses import dataclass
from pathlib import Path

from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle, Files, build_bundle, read_files


@dataclass(frozen=True, slots=True)
class Found:
    """What the files hold: a bundle that may come into force, else their problems."""

    files: Files | PolicyError
    bundle: Bundle | None
    problems: tuple[str, ...]


class PolicyStore:
    """Holds the bundle in force. Whoever reads ``current`` keeps one whole bundle.

    With ``release``, a policy that names another release is refused: it would be judged by a model that it was not
    written for.

    ``changed``, ``look`` and ``reload`` read files: call them from a thread that may wait, by the application's own
    clock. ``take`` does not wait.

    Raises PolicyError: the first bundle is wrong; there is no last good one to keep.
    """

    def __init__(self, directory: Path | None, base: Path | None = None, *, release: str | None = None) -> None:
        self._directories = [directory] if directory is not None else []
        self._base = base
        self._release = release
        self._seen: Files | PolicyError = read_files(self._directories, base)
        self._current = self._build(self._seen)

    @property
    def current(self) -> Bundle:
        """The last bundle that was right."""
        return self._current

    def changed(self) -> bool:
        """Tell whether the files are others than those that were last taken, by their content."""
        return not _same(self._read(), self._seen)

    def look(self) -> Found:
        """Return what the files hold now, and take nothing."""
        files = self._read()
        if isinstance(files, PolicyError):
            return Found(files, None, files.problems)
        try:
            return Found(files, self._build(files), ())
        except PolicyError as error:
            return Found(files, None, error.problems)

    def take(self, found: Found) -> None:
        """Bring what was found into force at once, or keep what is in force if it has problems."""
        self._seen = found.files
        if found.bundle is not None:
            self._current = found.bundle

    def reload(self) -> tuple[str, ...]:
        """Take what the files hold now, or return their problems and keep what is in force."""
        found = self.look()
        self.take(found)
        return found.problems

    def _build(self, files: Files) -> Bundle:
        bundle = build_bundle(files)
        problems = tuple(
            f"{bundle.paths[name]}: safety.release: `{policy.release}` is not loaded; this gateway judges with "
            f"`{self._release}`: name that one or leave the key away"
            for name, policy in bundle.policies.items()
            if self._release is not None and policy.release not in (None, self._release)
        )
        if problems:
            raise PolicyError(problems)
        return bundle

    def _read(self) -> Files | PolicyError:
        try:
            return read_files(self._directories, self._base)
        except PolicyError as error:
            return error


def _same(one: Files | PolicyError, other: Files | PolicyError) -> bool:
    if isinstance(one, PolicyError) and isinstance(other, PolicyError):
        return one.problems == other.problems
    return one == other
