"""Sessions of the console: a random token in a cookie, of which only the SHA-256 is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, delete, insert, select, update

from gateway.store.schema import console_session, console_user
from gateway.store.users import User, fold, now_ms, read_user
from gateway.store.writer import Writer

IDLE_S: Final = 30 * 60
LIFE_S: Final = 12 * 3600
TOUCH_S: Final = 60
"""How exactly the last visit is kept."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in user. ``csrf`` belongs to this session alone and must come back with whatever changes something."""

    user: User
    csrf: str
    token_sha256: bytes
    seen_at: int


class Sessions:
    """Opens, finds and ends sessions; one ends after ``idle_s`` seconds unused and after ``life_s`` in any case."""

    def __init__(
        self,
        reader: Engine,
        writer: Writer,
        *,
        idle_s: float = IDLE_S,
        life_s: float = LIFE_S,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._idle_ms = int(idle_s * 1000)
        self._life_ms = int(life_s * 1000)
        self._clock = clock

    async def open(self, user: User) -> str:
        """Return the token of a new session; it is kept nowhere. Sessions that are over are swept out."""
        token, now = secrets.token_urlsafe(32), self._clock()
        row = {"token_sha256": _digest(token), "folded": fold(user.name), "created_at": now, "seen_at": now}
        over = (console_session.c.seen_at < now - self._idle_ms) | (console_session.c.created_at < now - self._life_ms)
        await self._writer.submit(
            lambda conn: (conn.execute(delete(console_session).where(over)), conn.execute(insert(console_session), row))
        )
        return token

    async def find(self, token: str) -> Session | None:
        """Return the session that goes on by this; None when malformed, unknown, over, or of a disabled user."""
        if not _TOKEN.fullmatch(token):
            return None
        digest, now = _digest(token), self._clock()
        query = (
            select(console_user, console_session.c.seen_at)
            .join(console_session, console_session.c.folded == console_user.c.folded)
            .where(
                console_session.c.token_sha256 == digest,
                console_session.c.seen_at > now - self._idle_ms,
                console_session.c.created_at > now - self._life_ms,
                console_user.c.disabled_at.is_(None),
            )
        )
        with self._reader.connect() as conn:
            row = conn.execute(query).first()
        if row is None:
            return None
        if now - row.seen_at >= TOUCH_S * 1000:
            used = update(console_session).where(console_session.c.token_sha256 == digest).values(seen_at=now)
            await self._writer.submit(lambda conn: conn.execute(used).rowcount)
        csrf = hmac.new(token.encode(), b"so8t console csrf", hashlib.sha256).hexdigest()
        return Session(read_user(row), csrf, digest, row.seen_at)

    async def end(self, session: Session) -> None:
        """End a session for good."""
        ended = delete(console_session).where(console_session.c.token_sha256 == session.token_sha256)
        await self._writer.submit(lambda conn: conn.execute(ended).rowcount)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
