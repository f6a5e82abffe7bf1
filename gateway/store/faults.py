"""What the database's errors mean for the writer."""

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

_RECOVERABLE: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}
_OWN_FAULT: Final = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG}


class LostTransaction(Exception):  # noqa: N818 - an event
    """SQLite has taken back the whole transaction on its own."""


def decisive(error: BaseException) -> sqlite3.Error | None:
    """Return the error of SQLite behind ``error``, None when there is none.

    After an error that took the transaction back, the savepoint is gone too, which is an error of its own: the one that
    is no plain SQLITE_ERROR counts.
    """
    found: sqlite3.Error | None = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, sqlite3.Error) and (found is None or _primary(cause) != sqlite3.SQLITE_ERROR):
            found = cause
        cause = cause.__cause__ or cause.__context__
    return found


def _primary(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)  # absent where the module itself complains
    return code & 0xFF if isinstance(code, int) else None


def _code(error: BaseException) -> int | None:
    found = decisive(error)
    return None if found is None else _primary(found)


def is_fatal(error: BaseException) -> bool:
    """Tell whether the database itself failed, so that the transaction is lost."""
    if isinstance(error, LostTransaction):
        return True
    if not isinstance(error, DBAPIError | sqlite3.Error):
        return False
    code = _code(error)
    return getattr(error, "connection_invalidated", False) if code is None else code not in _OWN_FAULT


def is_recoverable(error: BaseException) -> bool:
    """Tell whether a later try may succeed without losing anything: the disk was full, or the database busy."""
    return _code(error) in _RECOVERABLE
