"""People who decide cases: name, organisation, groups, and an argon2id hash of their password."""

import asyncio
import re
import secrets
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from audit.entry import is_organization
from audit.log import append_records
from gateway.errors import RequestError
from gateway.store.keys import OPERATOR
from gateway.store.records import Administrator, AuditTrail, acting, build_record
from gateway.store.schema import console_session, console_user
from gateway.store.writer import Writer

Language = Literal["en", "ja"]
LANGUAGES: Final = ("en", "ja")
MAX_NAME: Final = 100
MAX_GROUPS: Final = 50
MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 1024
ACTOR: Final = "actor"
"""The kind of pseudonym under which entries name a person who acts."""
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUP: Final = re.compile(r"[^\s:,]{1,100}")
_EMAIL: Final = re.compile(r"[^@\s<>,;\"\x00-\x1f]{1,64}@[A-Za-z0-9.-]{1,189}")


class UserCommandError(RequestError):
    """A command about users is wrong: an impossible name, a weak password, or no such user."""

    code = "invalid_user_command"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in to the console. Times are milliseconds since the epoch."""

    name: str
    organization: str
    groups: tuple[str, ...]
    email: str | None
    language: Language
    created_at: int
    disabled_at: int | None


@dataclass(frozen=True, slots=True)
class NewUser:
    """What is asked for a user that is to be made."""

    name: str
    organization: str
    groups: tuple[str, ...] = ()
    email: str | None = None
    language: Language = "en"


def now_ms() -> int:
    """Return the time: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def fold(name: str) -> str:
    """Return what two spellings of one name have in common: compatibility forms and case do not tell people apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def make_password() -> str:
    """Return a random password that can be read out: 20 characters, 99 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))


def create_user(conn: Connection, trail: AuditTrail, new: NewUser, password_hash: str, by: Administrator) -> User:
    """Make a user and its entry in the caller's transaction; UserCommandError when the name is taken."""
    row = {
        "folded": fold(new.name),
        "name": new.name,
        "org": new.organization,
        "groups": orjson.dumps(new.groups).decode(),
        "email": new.email,
        "language": new.language,
        "password_hash": password_hash,
        "created_at": now_ms(),
    }
    try:
        with conn.begin_nested():
            conn.execute(insert(console_user).values(row))
    except IntegrityError:
        raise UserCommandError(f"there is a user `{new.name}` already; names are unique in the whole gateway") from None
    user = cast("User", find_user(conn, new.name))
    _record(conn, trail, "user_created", user, by)
    return user


def disable_user(conn: Connection, trail: AuditTrail, name: str, by: Administrator) -> User:
    """Disable a user, end the sessions, and make the entry, in the caller's transaction.

    UserCommandError when there is no such user. One that is disabled already stays so, without another entry.
    """
    user = _wanted(conn, name)
    if user.disabled_at is None:
        _change(conn, user, disabled_at=now_ms())
        _record(conn, trail, "user_disabled", user, by)
    return _wanted(conn, name)


def set_password(conn: Connection, trail: AuditTrail, name: str, password_hash: str, by: Administrator) -> User:
    """Give a user another password, end the sessions, and make the entry, in the caller's transaction."""
    user = _wanted(conn, name)
    if user.disabled_at is not None:
        raise UserCommandError(f"the user `{user.name}` is disabled")
    _change(conn, user, password_hash=password_hash)
    _record(conn, trail, "user_password_set", user, by)
    return user


def find_user(conn: Connection, name: str) -> User | None:
    """Return the user of that name, a disabled one too; None when there is none."""
    row = conn.execute(select(console_user).where(console_user.c.folded == fold(name))).first()
    return None if row is None else read_user(row)


def list_users(conn: Connection, organization: str | None = None) -> list[User]:
    """Return the users, disabled ones too, by organisation and name."""
    query = select(console_user).order_by(console_user.c.org, console_user.c.folded)
    if organization is not None:
        query = query.where(console_user.c.org == organization)
    return [read_user(row) for row in conn.execute(query)]


def read_user(row: Row[Any]) -> User:
    """Return the user that a row of ``console_user`` holds."""
    groups = tuple(orjson.loads(row.groups))
    return User(row.name, row.org, groups, row.email, row.language, row.created_at, row.disabled_at)


def _wanted(conn: Connection, name: str) -> User:
    user = find_user(conn, name)
    if user is None:
        raise UserCommandError(f"there is no user `{name[:MAX_NAME]}`; `so8t users list` names them")
    return user


def _change(conn: Connection, user: User, **values: object) -> None:
    conn.execute(update(console_user).where(console_user.c.folded == fold(user.name)).values(**values))
    conn.execute(delete(console_session).where(console_session.c.folded == fold(user.name)))


def _record(conn: Connection, trail: AuditTrail, event: str, user: User, by: Administrator) -> None:
    vault = trail.load_key(conn, user.organization)
    fields = {"user": vault.pseudonym(ACTOR, user.name), **acting(vault, by)}
    append_records(conn, [build_record(vault, event, fields, {"user": user.name.encode()})])


def _check(new: NewUser) -> None:
    """Refuse what cannot be a user, with the reason."""
    name = new.name
    if not name or len(name) > MAX_NAME or len(fold(name)) > 2 * MAX_NAME or not name.isprintable():
        raise UserCommandError(f"a name has 1 to {MAX_NAME} printable characters")
    if name != name.strip():
        raise UserCommandError("a name neither begins nor ends with a space")
    if not is_organization(new.organization) or new.organization == OPERATOR:
        raise UserCommandError(
            f"an organisation is named by lower-case letters, digits and hyphens, at most 63, and not `{OPERATOR}`"
        )
    if len(new.groups) > MAX_GROUPS or not all(map(_is_group, new.groups)):
        raise UserCommandError("a group has 1 to 100 printable characters without spaces, colons and commas")
    if new.email is not None and not _EMAIL.fullmatch(new.email):
        raise UserCommandError(f"`{new.email[:254]}` is not a mail address")
    if new.language not in LANGUAGES:
        raise UserCommandError(f"the language is one of: {', '.join(LANGUAGES)}")


def _is_group(name: str) -> bool:
    return name.isprintable() and _GROUP.fullmatch(name) is not None


def _check_password(password: str, name: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UserCommandError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if fold(name) in fold(password) or len(set(password)) < 5:
        raise UserCommandError("the password is too easy to guess: it repeats itself or the name")


class Users:
    """The users, for a gateway that serves, and for its commands.

    Passwords are hashed off the event loop, two at a time: each takes 64 MiB for a moment.
    """

    def __init__(
        self, reader: Engine, writer: Writer, trail: AuditTrail, *, hasher: PasswordHasher | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._trail = trail
        self._hasher = hasher or PasswordHasher()
        self._hashing = asyncio.Semaphore(2)
        self._nobody: str | None = None

    async def create(self, new: NewUser, password: str, by: Administrator) -> User:
        """Make a user; durable, with its entry, when this returns. UserCommandError when it cannot be."""
        _check(new)
        _check_password(password, new.name)
        hashed = await self._off_loop(self._hasher.hash, password)
        return await self._writer.submit(lambda conn: create_user(conn, self._trail, new, hashed, by))

    async def disable(self, name: str, by: Administrator) -> User:
        """Disable a user and end the sessions; durable, with its entry, when this returns."""
        return await self._writer.submit(lambda conn: disable_user(conn, self._trail, name, by))

    async def set_password(self, name: str, password: str, by: Administrator) -> User:
        """Give a user another password and end the sessions; durable, with its entry, when this returns."""
        _check_password(password, name)
        hashed = await self._off_loop(self._hasher.hash, password)
        return await self._writer.submit(lambda conn: set_password(conn, self._trail, name, hashed, by))

    def find(self, name: str) -> User | None:
        """Return the user of that name, a disabled one too."""
        with self._reader.connect() as conn:
            return find_user(conn, name)

    def listing(self, organization: str | None = None) -> list[User]:
        """Return the users, disabled ones too."""
        with self._reader.connect() as conn:
            return list_users(conn, organization)

    async def authenticate(self, name: str, password: str) -> User | None:
        """Return the user whose password it is; None when there is no such user, it is wrong, or the user is disabled.

        The time it takes tells none of the three: some hash is verified in every case.
        """
        name, password = name[: 2 * MAX_NAME], password[: MAX_PASSWORD + 1]
        query = select(console_user).where(console_user.c.folded == fold(name))
        with self._reader.connect() as conn:
            row = conn.execute(query).first()
        if self._nobody is None:
            self._nobody = await self._off_loop(self._hasher.hash, make_password())
        right = await self._off_loop(self._verify, self._nobody if row is None else row.password_hash, password)
        if row is None or not right or row.disabled_at is not None:
            return None
        return read_user(row)

    async def record(self, event: str, name: str, fields: Mapping[str, str]) -> None:
        """Append an entry about somebody at the door, to the log of the user's organisation, else to the operator's."""
        user = self.find(name)
        organization = OPERATOR if user is None else user.organization
        key = await self._trail.key(organization)
        pseudonym = key.pseudonym(ACTOR, fold(name)[:MAX_NAME] if user is None else user.name)
        await self._trail.record(organization, event, {"user": pseudonym, **fields})

    async def command(self, body: Mapping[str, Any], auth: str = "cli") -> dict[str, Any]:
        """Do what ``POST /control/users`` asks for; UserCommandError (status 400) when that is wrong.

        ``{"action": "create", "name", "organization", "groups", "email", "language", "password", "actor"}``,
        ``{"action": "password", "name", "password", "actor"}``, ``{"action": "disable", "name", "actor"}``. A password
        that is null is made here, and told in the answer only.
        """
        action, by = _read_command(body, auth)
        if action == "disable":
            return plain(await self.disable(body["name"], by))
        password = body["password"] or make_password()
        if action == "password":
            user = await self.set_password(body["name"], password, by)
        else:
            groups, email, language = tuple(body["groups"]), body["email"], body["language"]
            new = NewUser(body["name"], body["organization"], groups, email, language)
            user = await self.create(new, password, by)
        return plain(user) | ({} if body["password"] else {"password": password})

    async def _off_loop(self, function: Callable[..., Any], *arguments: str) -> Any:
        async with self._hashing:
            return await asyncio.to_thread(function, *arguments)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerifyMismatchError, InvalidHashError):
            return False


_COMMANDS: Final[Mapping[str, frozenset[str]]] = {
    "create": frozenset({"name", "organization", "groups", "email", "language", "password"}),
    "password": frozenset({"name", "password"}),
    "disable": frozenset({"name"}),
}
_NULLABLE: Final = {"email", "password"}


def _read_command(body: Mapping[str, Any], auth: str) -> tuple[str, Administrator]:
    action = str(body.get("action"))
    wanted = _COMMANDS.get(action)
    if wanted is None or body.keys() != wanted | {"action", "actor"}:
        told = "; ".join(f"`{name}` ({', '.join(sorted(fields))})" for name, fields in _COMMANDS.items())
        raise UserCommandError(f"a command is one of: {told}; each with `actor`")
    for name, value in body.items():
        if name == "groups":
            right = isinstance(value, list) and all(isinstance(each, str) for each in value)
        else:
            right = isinstance(value, str) or (value is None and name in _NULLABLE)
        if not right:
            raise UserCommandError(f"`{name}` has the wrong type")
    return action, Administrator(body["actor"][:200], auth)


def plain(user: User) -> dict[str, Any]:
    """Return a user for a script; there is no secret in it."""
    return {
        "name": user.name,
        "organization": user.organization,
        "groups": list(user.groups),
        "email": user.email,
        "language": user.language,
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
    }
