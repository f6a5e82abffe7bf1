"""The entry: exact JSON bytes with a closed set of fields, and no place for free text.

A value is a number, a boolean, an id, a word or token of the operator's own, or a salted commitment or keyed digest of
what a client wrote. ``README.md`` lists the fields.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from uuid6 import uuid7

from audit.errors import EntryError

VERSION: Final = 1
MAX_BYTES: Final = 16 * 1024
MAX_ITEMS: Final = 256

Check = Callable[[Any], bool]


def _matches(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= MAX_ITEMS and all(map(check, value))


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _flag(value: object) -> bool:
    return type(value) is bool


def _scores(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"allow", "refuse", "escalate"}
        and all(type(each) in (int, float) and 0 <= each <= 1 for each in value.values())
    )


_organization: Final = _matches(r"[a-z0-9][a-z0-9-]{0,62}")
_word: Final = _matches(r"[a-z][a-z0-9_-]{0,63}")
_token: Final = _matches(r"[!-~]{1,200}")
_uuid: Final = _matches(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_sha256: Final = _matches(r"[0-9a-f]{64}")
_label: Final = _matches(r"ALLOW|REFUSE|ESCALATE")
_commitment: Final = _matches(r"c1:sha256:[0-9a-f]{64}")
_pseudonym: Final = _matches(r"h1:[0-9a-f]{64}")
_key: Final = _matches(r"[A-Za-z0-9_-]{1,32}")


def _payloads(value: object) -> bool:
    return isinstance(value, dict) and all(_word(name) and _commitment(each) for name, each in value.items())


def is_organization(name: str) -> bool:
    """Tell whether ``name`` can name an organisation: lower-case letters, digits and hyphens, at most 63."""
    return _organization(name)


FIELDS: Final[Mapping[str, Check]] = {
    "request": _uuid,
    "decision": _uuid,
    "route": _matches(r"/[A-Za-z0-9/_{}.:-]{0,99}"),
    "key": _key,
    "stage": _matches(r"request|response"),
    "effect": _optional(_label),
    "enforced": _flag,
    "domain": _optional(_word),
    "route_to": _optional(_token),
    "reasons": _list(_token),
    "errors": _count,
    "policy": _token,
    "revision": _sha256,
    "previous": _sha256,
    "label": _label,
    "scores": _scores,
    "release": _token,
    "release_digest": _sha256,
    "template": _count,
    "judged_bytes": _count,
    "unjudged": _count,
    "verdicts": _count,
    "lowered": _list(_token),
    "obligations": _list(_word),
    "tags": _list(_token),
    "teams": _list(_token),
    "model": _pseudonym,
    "tools": _list(_pseudonym),
    "outcome": _word,
    "upstream_status": _optional(_count),
    "version": _token,
    "owner": _pseudonym,
    "actor": _pseudonym,
    "user": _pseudonym,
    "auth": _word,
    "entries": _list(_uuid),
    "ground": _word,
    "payloads": _payloads,
    "case": _uuid,
    "status": _word,
    "before": _word,
    "reason": _word,
    "kind": _matches(r"approve|deny|answer|opened|decided"),
    "lesson": _optional(_matches(r"allow|refuse")),
    "os_user": _pseudonym,
    "predecessor": _optional(_uuid),
    "successor": _optional(_uuid),
    "approvals": _count,
    "due": _count,
    "delivery": _uuid,
    "channel": _matches(r"email|slack|webhook"),
    "attempts": _count,
    "error": _token,
}
"""What each field may hold. A field that is not here cannot be written."""


@dataclass(frozen=True, slots=True)
class Event:
    """The fields of an event, beside ``v id t ev org`` and ``payloads``, which every entry may have."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()


def _event(required: str, optional: str = "") -> Event:
    return Event(frozenset(required.split()), frozenset(optional.split()))


EVENTS: Final[Mapping[str, Event]] = {
    "decision": _event(
        "request route key stage decision effect reasons",
        "enforced domain route_to errors policy revision label scores release release_digest template judged_bytes "
        "unjudged verdicts model tools case lowered obligations tags teams",
    ),
    "enforcement": _event("request decision outcome", "upstream_status case"),
    "case_opened": _event(
        "case request decision stage route key policy revision due approvals", "domain route_to predecessor"
    ),
    "case": _event("case status before", "request decision reason successor"),
    "case_ruled": _event("case kind actor auth", "os_user lesson"),
    "ruling_refused": _event("case kind ground actor auth", "os_user"),
    "delivered": _event("case delivery channel kind", "attempts"),
    "delivery_dead": _event("case delivery channel kind", "attempts error"),
    "key_created": _event("key owner auth", "actor"),
    "key_revoked": _event("key auth", "actor"),
    "user_created": _event("user auth", "actor"),
    "user_disabled": _event("user auth", "actor"),
    "user_password_set": _event("user auth", "actor"),
    "user_signed_in": _event("user auth"),
    "sign_in_failed": _event("user ground"),
    "policy_loaded": _event("policy revision", "previous auth actor"),
    "started": _event("", "version release release_digest template policy revision"),
    "stopped": _event("", "outcome"),
    "erasure": _event("entries ground auth", "actor"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that is ready to be appended: ``leaf`` is what the tree hashes, byte for byte.

    ``refs`` are the ids under which it can be found: its own, its decision's, its request's and its case's.
    """

    id: str
    organization: str
    leaf: bytes
    refs: tuple[str, ...]


def new_id() -> str:
    """Return a new id for an entry (UUIDv7: ordered by time)."""
    return str(uuid7())


def build_entry(
    organization: str,
    event: str,
    fields: Mapping[str, Any],
    payloads: Mapping[str, str] | None = None,
    *,
    entry_id: str | None = None,
    now: float | None = None,
) -> Entry:
    """Return the entry; EntryError for an unknown event, an unknown, missing or malformed field, or over 16 KiB.

    ``payloads`` maps the names of sealed payloads to their commitments.
    """
    known = EVENTS.get(event)
    if known is None:
        raise EntryError(f"unknown event `{event}`")
    if not _organization(organization):
        raise EntryError(f"`{organization[:80]}` cannot name an organisation")
    for name in fields:
        if name not in known.required and name not in known.optional:
            raise EntryError(f"an entry `{event}` has no field `{name}`")
    for name in known.required:
        if name not in fields:
            raise EntryError(f"an entry `{event}` needs the field `{name}`")
    entry_id = entry_id or new_id()
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    record: dict[str, Any] = {
        "v": VERSION,
        "id": entry_id,
        "t": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
        "ev": event,
        "org": organization,
        **fields,
    }
    if payloads:
        record["payloads"] = dict(payloads)
    for name, value in record.items():
        check = FIELDS.get(name)
        if check is not None and not check(value):
            raise EntryError(f"the field `{name}` of an entry `{event}` cannot hold {str(value)[:80]!r}")
    leaf = orjson.dumps(record)
    if len(leaf) > MAX_BYTES:
        raise EntryError(f"an entry may have {MAX_BYTES} bytes, not {len(leaf)}")
    refs = [entry_id, *(record[name] for name in ("decision", "request", "case") if name in record)]
    return Entry(entry_id, organization, leaf, tuple(dict.fromkeys(refs)))


def read_entry(leaf: bytes) -> dict[str, Any]:
    """Return the fields of a leaf; EntryError when it is not an entry of a version that is known here."""
    try:
        record = orjson.loads(leaf)
    except orjson.JSONDecodeError:
        raise EntryError("the leaf is not JSON") from None
    if not isinstance(record, dict) or record.get("v") != VERSION:
        raise EntryError("the leaf is not an entry of version 1")
    return record
