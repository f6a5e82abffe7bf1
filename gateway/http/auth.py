"""Who calls: a key, as a bearer token or in ``x-api-key``, or nobody's key where only the machine's owner can."""

from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

from starlette.types import Scope

from gateway.errors import AuthenticationError, RequestError
from gateway.http.transport import header
from gateway.principal import Principal

LOOPBACK: Final = Principal(organization="default", key_id="loopback", owner="loopback")
"""Who answers for a request without a key, while there are no keys and only this machine can connect."""


class Keyring(Protocol):
    """The keys of the store."""

    async def find(self, secret: str) -> Principal | None:
        """Return whose key it is; None when unknown or revoked."""
        ...

    def empty(self) -> bool:
        """Tell whether no key was ever made."""
        ...


class ForeignOriginError(RequestError):
    """A web page of another origin, or a name that was rebound to this machine."""

    status = 403
    code = "foreign_origin"


class Authenticator:
    """Turns headers into a principal. ``loopback``: whether only this machine can connect."""

    def __init__(self, keys: Keyring, *, loopback: bool) -> None:
        self._keys = keys
        self._loopback = loopback

    async def principal(self, scope: Scope) -> Principal:
        """Return who calls, or raise AuthenticationError or ForeignOriginError."""
        if self._loopback and self._keys.empty():
            _check_local(scope)
            return LOOPBACK
        secrets = _secrets(scope)
        if not secrets:
            raise AuthenticationError(
                "no key: send `Authorization: Bearer <key>` or `x-api-key: <key>`; `so8t keys create` makes one"
            )
        if len(secrets) > 1:
            raise AuthenticationError("`Authorization` and `x-api-key` hold different keys: send one of both")
        principal = await self._keys.find(secrets.pop())
        if principal is None:
            raise AuthenticationError("the key is unknown or revoked")
        return principal


def _secrets(scope: Scope) -> set[str]:
    """Return the keys that were sent."""
    scheme, _, bearer = (header(scope, b"authorization") or "").partition(" ")
    sent = (bearer if scheme.lower() == "bearer" else "", header(scope, b"x-api-key") or "")
    return {secret.strip() for secret in sent} - {""}


def _check_local(scope: Scope) -> None:
    """Refuse what a browser sends for a foreign page: without keys, the Host and Origin are all there is to check."""
    host = header(scope, b"host")
    if host is None or not _is_local(f"//{host}"):
        raise ForeignOriginError("without keys only http://localhost and http://127.0.0.1 are answered: create a key")
    for name in (b"origin", b"referer"):
        if any(key == name for key, _ in scope["headers"]) and not _is_local(header(scope, name) or ""):
            raise ForeignOriginError("without keys no page of another origin is answered: create a key")


def _is_local(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
