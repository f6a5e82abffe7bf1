"""A real log in a directory, with a key of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from audit.entry import build_entry, new_id
from audit.log import Record, append_records, read_head
from audit.note import Signer
from audit.publish import Publisher, origin_of, signer_name
from audit.tables import metadata
from audit.verify import Report, verify_log

ORG = "acme"


def enforcement() -> dict[str, Any]:
    return {"request": new_id(), "decision": new_id(), "outcome": "forwarded", "upstream_status": 200}


class Log:
    """One organisation's log: a database, a signing key, and what was published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "log.db"
        self.published = path / "audit"
        self.directory = self.published / ORG
        self.signer = Signer.generate(signer_name("test"))
        self.engine = open_engine(self.database)
        metadata.create_all(self.engine)
        self.ids: list[str] = []

    def append(self, count: int, fields: Callable[[], dict[str, Any]] = enforcement) -> list[int]:
        records = [Record(build_entry(ORG, "enforcement", fields())) for _ in range(count)]
        self.ids += [record.entry.id for record in records]
        with self.engine.begin() as conn:
            return append_records(conn, records)

    def commit(self, function: Callable[[Connection], bool]) -> bool:
        with self.engine.begin() as conn:
            return function(conn)

    def publisher(self) -> Publisher:
        return Publisher(self.engine, self.published, self.signer, self.commit)

    def publish(self) -> None:
        self.publisher().publish()

    @property
    def origin(self) -> str:
        return origin_of(self.signer.verifier.name, ORG)

    def checkpoint(self) -> bytes:
        return (self.directory / "checkpoint").read_bytes()

    def verify(self, *, database: bool = True, since: bytes | None = None) -> Report:
        verifiers = [self.signer.verifier]
        engine = self.engine if database else None
        return verify_log(self.directory, verifiers, organization=ORG, origin=self.origin, database=engine, since=since)

    def size(self) -> int:
        with self.engine.connect() as conn:
            head = read_head(conn, ORG)
        return 0 if head is None else head.current.size

    def execute(self, statement: str, *parameters: object) -> None:
        with self.engine.begin() as conn:
            conn.exec_driver_sql(statement, tuple(parameters))

    def close(self) -> None:
        self.engine.dispose()


def open_engine(database: Path) -> Engine:
    engine = create_engine(f"sqlite:///{database}")

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    return engine
