"""The audit trail: entries with what they are about, durable before anybody gets an answer."""

import asyncio
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from audit.entry import Entry, build_entry, new_id, read_entry
from audit.log import Record, append_records, erase_payloads, find_entries, store_key, subject_entries
from audit.vault import MasterKey, OrganizationKey, Sealed
from gateway.store.inputs import add_inputs, erase_inputs
from gateway.store.writer import Writer, checkpoint

SEAL_INLINE: Final = 64 * 1024
"""Payloads up to this size are sealed on the event loop (tens of microseconds), larger ones in a thread."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry that is durable: its id and its index in its organisation's log."""

    entry_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did. ``wiped``: whether the write-ahead log is free of it too (else a reader was in the way)."""

    receipt: Receipt
    payloads: int
    wiped: bool


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who acts on the store, and how that is known (``cli``, ``console``)."""

    name: str
    auth: str = "cli"


def os_user() -> str:
    """Return the name of the operating system's user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class AuditTrail:
    """Records what the gateway does."""

    def __init__(self, writer: Writer, master: MasterKey) -> None:
        self._writer = writer
        self._master = master
        self._keys: dict[str, OrganizationKey] = {}

    async def record(
        self,
        organization: str,
        event: str,
        fields: Mapping[str, Any],
        payloads: Mapping[str, bytes] | None = None,
        *,
        subject: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Append an entry and its sealed payloads in one transaction; return once both are durable.

        ``inputs`` is the row of what a decision was made from, kept beside them. ``subject`` names the person whom the
        payloads are about; only a keyed digest of it is kept, beside them.
        AuditUnavailable when it cannot be made durable, audit.errors.EntryError when it is no entry.
        """
        key = self._keys.get(organization) or await self.key(organization)
        if sum(map(len, (payloads or {}).values())) > SEAL_INLINE:
            record = await asyncio.to_thread(build_record, key, event, fields, payloads or {}, subject)
        else:
            record = build_record(key, event, fields, payloads or {}, subject)
        index = await self._writer.submit_item(_append, (record, inputs))
        return Receipt(record.entry.id, index)

    async def key(self, organization: str) -> OrganizationKey:
        """Return the organisation's vault key, made when it is first asked for."""
        if organization not in self._keys:
            self._keys[organization] = await self._writer.submit(lambda conn: self.load_key(conn, organization))
        return self._keys[organization]

    def load_key(self, conn: Connection, organization: str) -> OrganizationKey:
        """Return the organisation's vault key inside a writing transaction."""
        return load_key(conn, self._master, organization)

    async def erase(self, organization: str, entry_ids: Sequence[str], *, ground: str, by: Administrator) -> Erasure:
        """Destroy the payloads of these entries, at most 256, with their keys and salts, and append the entry of it.

        What was kept beside those of decisions, for policies to be tried on, goes too.
        Afterwards the database and its write-ahead log hold nothing of them, and every proof still verifies.
        """
        key = await self.key(organization)
        fields = {"entries": list(entry_ids), "ground": ground, **acting(key, by)}
        record = build_record(key, "erasure", fields)

        def erase(conn: Connection) -> tuple[int, int]:
            erased = erase_payloads(conn, organization, entry_ids)
            erase_inputs(conn, organization, _decisions(conn, organization, entry_ids))
            return append_records(conn, [record])[0], erased

        index, erased = await self._writer.submit(erase)
        wiped = await self._writer.submit_alone(lambda conn: checkpoint(conn, "TRUNCATE"))
        return Erasure(Receipt(record.entry.id, index), erased, wiped)

    async def entries_about(self, organization: str, subject: str) -> list[str]:
        """Return the ids of the entries whose payloads are about ``subject``."""
        pseudonym = (await self.key(organization)).pseudonym("subject", subject)
        return await self._writer.submit(lambda conn: subject_entries(conn, organization, pseudonym))


def _append(conn: Connection, items: Sequence[tuple[Record, Mapping[str, Any] | None]]) -> list[int]:
    indices = append_records(conn, [record for record, _ in items])
    add_inputs(conn, [inputs for _, inputs in items if inputs is not None])
    return indices


def _decisions(conn: Connection, organization: str, entry_ids: Sequence[str]) -> list[str]:
    """Return the ids of the decisions that these entries are of."""
    leaves = (leaf for entry_id in entry_ids for _, _, leaf in find_entries(conn, entry_id, organization))
    entries = [entry for entry in map(read_entry, leaves) if entry["ev"] == "decision" and entry["id"] in entry_ids]
    return [entry["decision"] for entry in entries]


def load_key(conn: Connection, master: MasterKey, organization: str) -> OrganizationKey:
    """Return the organisation's vault key inside a writing transaction; made when it is first asked for."""
    _, wrapped = master.create(organization)
    return master.unwrap(organization, store_key(conn, organization, wrapped))


def acting(key: OrganizationKey, by: Administrator) -> dict[str, str]:
    """Return the fields that tell who acted: a pseudonym, and how that is known."""
    return {"actor": key.pseudonym("actor", by.name), "auth": by.auth}


def build_record(
    key: OrganizationKey,
    event: str,
    fields: Mapping[str, Any],
    payloads: Mapping[str, bytes] | None = None,
    subject: str | None = None,
) -> Record:
    """Return an entry with its payloads sealed, ready to be appended; audit.errors.EntryError when it is no entry."""
    entry_id = new_id()
    sealed: tuple[Sealed, ...] = tuple(key.seal(entry_id, name, data) for name, data in (payloads or {}).items())
    commitments = {each.name: each.commitment for each in sealed}
    entry: Entry = build_entry(key.organization, event, fields, commitments, entry_id=entry_id)
    return Record(entry, sealed, None if subject is None else key.pseudonym("subject", subject))
