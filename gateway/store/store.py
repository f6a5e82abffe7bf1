"""The store of one gateway: opened whole, or refused."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from audit.errors import AuditError
from audit.publish import Publisher
from gateway.errors import AuditUnavailable
from gateway.store.directory import DEFAULT_NAME, DataDirectory
from gateway.store.engine import open_reader, open_writer, upgrade
from gateway.store.keys import Keyring
from gateway.store.lock import DirectoryLock
from gateway.store.records import AuditTrail
from gateway.store.sessions import Sessions
from gateway.store.users import Users
from gateway.store.writer import Writer


class Store:
    """Everything durable: the writer, the audit trail, the keys, and the publisher of the logs.

    Opening takes the directory's lock, migrates the schema, and checks that the database continues what was published.
    DirectoryInUse when another process writes there; AuditUnavailable when the check fails (an older copy was restored,
    or somebody altered something) or the database cannot be opened; SettingsError when a secret key is unusable.
    """

    def __init__(self, directory: DataDirectory, *, name: str = DEFAULT_NAME, publish_interval_s: float = 0.4) -> None:
        self.directory = directory
        self._lock = DirectoryLock(directory)
        self._engines: list[Engine] = []
        try:
            master, signer = directory.vault_key(), directory.signer(name)
            self.verifier = signer.verifier
            self._engines.append(open_writer(directory.database))
            upgrade(self._engines[0])
            self.reader = open_reader(directory.database)
            self._engines.append(self.reader)
            self.publisher = Publisher(
                self.reader, directory.published, signer, self._commit, interval_s=publish_interval_s
            )
            self.publisher.check()
        except (AuditError, DBAPIError) as error:
            self._release()
            raise AuditUnavailable(str(error.orig if isinstance(error, DBAPIError) else error)) from error
        except BaseException:
            self._release()
            raise
        self.writer = Writer(self._engines[0])
        self.trail = AuditTrail(self.writer, master)
        self.keys = Keyring(self.reader, self.writer, self.trail)
        self.users = Users(self.reader, self.writer, self.trail)
        self.sessions = Sessions(self.reader, self.writer)
        self.publisher.start()

    @property
    def problem(self) -> str | None:
        """Why the log cannot be written or published now; None when all is well."""
        return self.writer.problem or self.publisher.problem

    def _commit(self, function: Callable[[Connection], bool]) -> bool:
        return self.writer.run(function)

    def command(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do a command about keys as ``Keyring.command`` does, from a thread without an event loop."""
        return asyncio.run(self.keys.command(body))

    def close(self) -> None:
        """Write what waits, publish it, and let others write."""
        self.publisher.close()
        self.writer.close()
        self._release()

    def _release(self) -> None:
        for engine in self._engines:
            engine.dispose()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
