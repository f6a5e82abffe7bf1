"""The story of a case in the log: the request, why it was stopped, who was told, who decided, and what was done."""

from typing import Final

from sqlalchemy import Connection

from audit.entry import read_entry
from audit.log import find_entries

Found = tuple[str, int, bytes]
"""An organisation, an index in its log, and the leaf there."""

MAX_LINKS: Final = 100


def tell_case(conn: Connection, case: str, organization: str | None) -> list[Found]:
    """Return the entries of a case in the order of the log, with those of its request and of the cases it is linked to.

    Empty when no entry tells of it.
    """
    story: dict[tuple[str, int], bytes] = {}
    wanted, seen = [case], set[str]()
    while wanted and len(seen) < MAX_LINKS:
        ref = wanted.pop()
        if ref in seen:
            continue
        seen.add(ref)
        for org, index, leaf in find_entries(conn, ref, organization):
            story[org, index] = leaf
            entry = read_entry(leaf)
            linked = ("request", "predecessor", "successor") if entry.get("case") is not None else ()
            wanted += [entry[name] for name in linked if isinstance(entry.get(name), str)]
    return [(org, index, leaf) for (org, index), leaf in sorted(story.items())]
