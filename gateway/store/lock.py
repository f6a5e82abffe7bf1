"""The lock of a data directory: one process writes."""

import fcntl
import os
from types import TracebackType
from typing import Self

from gateway.errors import GatewayError
from gateway.store.directory import DataDirectory


class DirectoryInUse(GatewayError):  # noqa: N818 - named like its siblings
    """Another process (a running gateway) writes to the data directory."""


class DirectoryLock:
    """Holds ``gateway.lock`` with flock until closed; the kernel releases it when the process dies.

    Raises DirectoryInUse when another process holds it.
    """

    def __init__(self, directory: DataDirectory) -> None:
        directory.create()
        self._descriptor = os.open(directory.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise DirectoryInUse(f"{directory.path} is in use by a running gateway") from None
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        """Let others write."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
