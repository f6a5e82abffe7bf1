"""The table of what decisions were made from: written in the decision's transaction, erasable, read in columns."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from audit.log import insert_rows
from gateway.errors import SettingsError
from gateway.store.schema import api_key, policy_input

BATCH: Final = 20_000
MOST_IDS: Final = 1000
"""In one statement."""


def add_inputs(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` (``gateway.policy.inputs.input_row``) inside a writing transaction."""
    columns = tuple(policy_input.c.keys())
    insert_rows(conn, policy_input, [tuple(row[column] for column in columns) for row in rows])


def erase_inputs(conn: Connection, organization: str, decisions: Sequence[str]) -> int:
    """Erase the rows of these decisions inside a writing transaction; return how many there were."""
    mine = (policy_input.c.org == organization) & policy_input.c.decision_id.in_(decisions)
    return conn.execute(delete(policy_input).where(mine)).rowcount


def expire_inputs(conn: Connection, before: int, most: int | None = None) -> int:
    """Erase the rows from before ``before`` (milliseconds since the epoch), at most ``most``; return how many."""
    known = select(func.min(policy_input.c.org).label("org")).cte("known", recursive=True)
    following = select(func.min(policy_input.c.org)).where(policy_input.c.org > known.c.org).scalar_subquery()
    known = known.union_all(select(following).where(known.c.org.is_not(None)))  # by the index on (org, at), no scan
    mine = policy_input.c.org.in_(select(known.c.org))
    old = select(policy_input.c.decision_id).where(mine, policy_input.c.at < before).limit(most)
    ids = list(conn.execute(old).scalars())
    for begin in range(0, len(ids), MOST_IDS):
        conn.execute(delete(policy_input).where(policy_input.c.decision_id.in_(ids[begin : begin + MOST_IDS])))
    return len(ids)


def find_input(conn: Connection, decision_id: str) -> dict[str, Any] | None:
    """Return the row of a decision; None when it has none, or no longer."""
    row = conn.execute(select(policy_input).where(policy_input.c.decision_id == decision_id)).first()
    return None if row is None else dict(row._mapping)


def owners(conn: Connection) -> dict[str, str]:
    """Return the owner of each key, revoked ones too."""
    return {row.id: row.owner for row in conn.execute(select(api_key.c.id, api_key.c.owner))}


def extent(conn: Connection) -> tuple[int, int]:
    """Return the lowest and highest row number; (0, -1) without rows."""
    low, high = conn.exec_driver_sql("SELECT min(rowid), max(rowid) FROM policy_input").one()
    return (0, -1) if low is None else (low, high)


def read_columns(
    database: Path, columns: Sequence[str], low: int, high: int, *, organization: str | None = None, since: int = 0
) -> Iterator[dict[str, list[Any]]]:
    """Yield batches of columns of the rows numbered ``low`` to ``high``, oldest first, straight from SQLite into Arrow.

    Raises SettingsError: the libraries for it are not installed.
    """
    try:
        import adbc_driver_sqlite.dbapi as driver
        import polars  # noqa: F401 - the driver hands over its data frames
    except ImportError as error:
        raise SettingsError(f"{error.name} is missing; install it: `pip install 'so8t-gateway[replay]'`") from None
    wanted = ", ".join(policy_input.c[name].name for name in columns)
    query = f"SELECT {wanted} FROM policy_input WHERE rowid BETWEEN ? AND ? AND at >= ?"  # noqa: S608 - own names
    tail: tuple[Any, ...] = (since,)
    if organization is not None:
        query, tail = f"{query} AND org = ?", (since, organization)
    with driver.connect(f"file:{database}?mode=ro") as connection, connection.cursor() as cursor:
        for begin in range(low, high + 1, BATCH):
            cursor.execute(query, (begin, min(begin + BATCH - 1, high), *tail))
            frame = cursor.fetch_polars()
            yield {name: frame[name].to_list() for name in columns}


def shadow_rows(conn: Connection, organization: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows in which a second bundle decided beside the first."""
    query = select(policy_input).where(policy_input.c.shadow_effect.is_not(None))
    if organization is not None:
        query = query.where(policy_input.c.org == organization)
    for row in conn.execute(query.execution_options(yield_per=1000)):
        yield dict(row._mapping)
