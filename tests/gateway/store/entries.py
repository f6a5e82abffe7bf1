"""Fields of entries, and checks of a whole data directory."""

from typing import Any

from audit.entry import new_id
from audit.publish import origin_of
from audit.verify import Report, verify_log
from gateway.store.directory import DataDirectory
from gateway.store.engine import open_reader


def enforcement() -> dict[str, Any]:
    return {"request": new_id(), "decision": new_id(), "outcome": "forwarded", "upstream_status": 200}


def verify(directory: DataDirectory, organization: str) -> Report:
    verifier = directory.verifier()
    engine = open_reader(directory.database)
    try:
        return verify_log(
            directory.published / organization,
            [verifier],
            organization=organization,
            origin=origin_of(verifier.name, organization),
            database=engine,
        )
    finally:
        engine.dispose()
