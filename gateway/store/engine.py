"""Opening the database: SQLite so that what is committed survives a power cut.

One connection writes, and only it checkpoints: SQLite before 3.51.3 can corrupt a database when two connections
checkpoint at once (sqlite.org/wal.html#walresetbug). Readers are read-only and never do.
"""

from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from gateway.store import migrations

BUSY_TIMEOUT_MS: Final = 5000


def open_writer(database: Path) -> Engine:
    """Return an engine with exactly one connection, for the writer thread; transactions begin as writers.

    WAL, synchronous=FULL (a commit returns after fsync), secure_delete (erased bytes are overwritten), foreign keys.
    Automatic checkpoints are off: the writer does them itself and sees their errors.
    """
    engine = create_engine(
        f"sqlite:///{database}", poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            "secure_delete = ON",
            "foreign_keys = ON",
            "mmap_size = 0",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def open_reader(database: Path) -> Engine:
    """Return an engine for reading, from any thread; each transaction sees one state. It cannot write.

    The file must exist. Works beside a running gateway and on a stopped one's directory.
    """
    engine = create_engine(
        f"sqlite:///file:{database}?mode=ro&uri=true",
        poolclass=QueuePool,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "wal_autocheckpoint = 0", "query_only = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest revision (run at start, before the writer)."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
