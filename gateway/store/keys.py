"""Keys of callers: ``so8t_<id>_<secret>``, of which only the SHA-256 of the secret is kept."""

import base64
import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert, select, update

from audit.entry import is_organization
from audit.log import append_records
from gateway.errors import RequestError
from gateway.principal import Principal
from gateway.store.records import Administrator, AuditTrail, acting, build_record
from gateway.store.schema import api_key
from gateway.store.writer import Writer

PREFIX: Final = "so8t"
OPERATOR: Final = "operator"
"""The organisation whose log has what concerns the gateway itself; no caller belongs to it."""
MAX_OWNER: Final = 200
_ALPHABET: Final = string.ascii_lowercase + string.digits
_KEY: Final = re.compile(r"so8t_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
_NOBODY: Final = hashlib.sha256(b"nobody's secret").digest()


class KeyCommandError(RequestError):
    """A command about keys is wrong: an impossible name, or no such key."""

    code = "invalid_key_command"


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as it is listed: everything but its secret. Times are UTC, ISO 8601."""

    id: str
    organization: str
    owner: str
    prefix: str
    created_at: str
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; ``key`` is shown once and kept nowhere."""

    id: str
    key: str


def create_key(conn: Connection, trail: AuditTrail, organization: str, owner: str, by: Administrator) -> NewKey:
    """Make a key and its entry in the caller's transaction; KeyCommandError for an impossible name."""
    if not is_organization(organization):
        raise KeyCommandError("an organisation is named by lower-case letters, digits and hyphens, at most 63")
    if organization == OPERATOR:
        raise KeyCommandError(f"`{OPERATOR}` is the log of the gateway itself: name the organisation otherwise")
    if not owner.strip() or len(owner) > MAX_OWNER or not owner.isprintable():
        raise KeyCommandError(f"the owner must be a printable name of at most {MAX_OWNER} characters")
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    row = {
        "id": key_id,
        "org": organization,
        "owner": owner,
        "prefix": f"{PREFIX}_{key_id}",
        "secret_sha256": _digest(secret),
        "created_at": _now(),
    }
    conn.execute(insert(api_key).values(row))
    vault = trail.load_key(conn, organization)
    fields = {"key": key_id, "owner": vault.pseudonym("owner", owner), **acting(vault, by)}
    append_records(conn, [build_record(vault, "key_created", fields, {"owner": owner.encode()})])
    return NewKey(key_id, f"{PREFIX}_{key_id}_{secret}")


def revoke_key(conn: Connection, trail: AuditTrail, key_id: str, by: Administrator) -> KeyInfo:
    """Revoke a key, with its entry, in the caller's transaction; KeyCommandError when there is no such key.

    A key that is revoked already stays as it is, without another entry.
    """
    found = [key for key in list_keys(conn) if key.id == key_id]
    if not found:
        raise KeyCommandError(f"there is no key `{key_id[:40]}`")
    changed = conn.execute(
        update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None)).values(revoked_at=_now())
    )
    if changed.rowcount:
        vault = trail.load_key(conn, found[0].organization)
        append_records(conn, [build_record(vault, "key_revoked", {"key": key_id, **acting(vault, by)})])
    return next(key for key in list_keys(conn) if key.id == key_id)


def list_keys(conn: Connection, organization: str | None = None) -> list[KeyInfo]:
    """Return the keys, revoked ones too, oldest first."""
    query = select(api_key).order_by(api_key.c.created_at, api_key.c.id)
    if organization is not None:
        query = query.where(api_key.c.org == organization)
    return [
        KeyInfo(row.id, row.org, row.owner, row.prefix, row.created_at, row.revoked_at) for row in conn.execute(query)
    ]


def find_key(conn: Connection, key: str) -> Principal | None:
    """Return whose key it is; None when malformed, unknown or revoked.

    The time it takes does not tell whether the id exists: a digest is compared in every case.
    """
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    row = conn.execute(select(api_key).where(api_key.c.id == found[1])).first()
    right = hmac.compare_digest(_digest(found[2]), _NOBODY if row is None else row.secret_sha256)
    if row is None or not right or row.revoked_at is not None:
        return None
    return Principal(row.org, row.id, row.owner)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


class Keyring:
    """The keys, for a gateway that serves: answers are remembered for ``ttl_s``, changes made here count at once.

    What is remembered is the SHA-256 of a whole key, never the key.
    """

    def __init__(
        self, reader: Engine, writer: Writer, trail: AuditTrail, *, ttl_s: float = 1.0, capacity: int = 4096
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._trail = trail
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._known: dict[bytes, tuple[float, Principal]] = {}
        self._empty: tuple[float, bool] | None = None

    async def find(self, secret: str) -> Principal | None:
        """Return whose key it is; None when unknown or revoked."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        remembered = self._known.get(digest)
        if remembered is not None and time.monotonic() < remembered[0]:
            return remembered[1]
        with self._reader.connect() as conn:
            principal = find_key(conn, secret)
        if principal is None:
            self._known.pop(digest, None)
            return None
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[digest] = time.monotonic() + self._ttl_s, principal
        return principal

    def empty(self) -> bool:
        """Tell whether no key was ever made: revoking the last one does not open the door again."""
        if self._empty is None or time.monotonic() >= self._empty[0]:
            with self._reader.connect() as conn:
                found = conn.execute(select(api_key.c.id).limit(1)).first()
                self._empty = time.monotonic() + self._ttl_s, found is None
        return self._empty[1]

    async def create(self, organization: str, owner: str, by: Administrator) -> NewKey:
        """Make a key; durable, with its entry, when this returns."""
        made = await self._writer.submit(lambda conn: create_key(conn, self._trail, organization, owner, by))
        self._forget()
        return made

    async def revoke(self, key_id: str, by: Administrator) -> KeyInfo:
        """Revoke a key; in force, durable, with its entry, when this returns."""
        revoked = await self._writer.submit(lambda conn: revoke_key(conn, self._trail, key_id, by))
        self._forget()
        return revoked

    async def command(self, body: Mapping[str, Any], auth: str = "cli") -> dict[str, Any]:
        """Do what ``POST /control/keys`` asks for; KeyCommandError (status 400) when that is wrong.

        ``{"action": "create", "organization", "owner", "actor"}`` gives ``{"id", "key"}``;
        ``{"action": "revoke", "id", "actor"}`` gives ``{"id", "revoked_at"}``.
        """
        wanted = {"create": {"organization", "owner"}, "revoke": {"id"}}.get(str(body.get("action")))
        if wanted is None or body.keys() != wanted | {"action", "actor"}:
            raise KeyCommandError("a command is `create` (organization, owner) or `revoke` (id), with `actor`")
        if not all(isinstance(value, str) for value in body.values()):
            raise KeyCommandError("every value of a command is a string")
        by = Administrator(body["actor"][:MAX_OWNER], auth)
        if body["action"] == "create":
            made = await self.create(body["organization"], body["owner"], by)
            return {"id": made.id, "key": made.key}
        revoked = await self.revoke(body["id"], by)
        return {"id": revoked.id, "revoked_at": revoked.revoked_at}

    def _forget(self) -> None:
        self._known.clear()
        self._empty = None
