"""POST to a URL whose place is an environment variable: what the answer's status means, and no redirects."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from gateway.errors import DeliveryPostponed, DeliveryRefused

TIMEOUT_S: Final = 10.0
MAX_RETRY_AFTER_S: Final = 86400.0
_AGAIN: Final = frozenset({408, 429})


class Poster:
    """One pooled session. Nothing of the answer is read but its status and ``Retry-After``."""

    def __init__(self, environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._environment = environment
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    def value(self, variable: str) -> str:
        """Return what the variable holds; DeliveryRefused where it holds nothing."""
        value = self._environment.get(variable, "").strip()
        if not value:
            raise DeliveryRefused("variable_unset")
        return value

    async def post(self, variable: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """POST JSON to the URL in ``variable``.

        2xx: taken. DeliveryPostponed, with what ``Retry-After`` says: 408, 429, 5xx, redirects (never followed),
        time-outs and broken connections. DeliveryRefused: every other status, a variable without a usable URL.
        """
        url = self.value(variable)
        if not url.startswith(("http://", "https://")):
            raise DeliveryRefused("url_invalid")
        try:
            response = await self._open().post(
                url, data=body, headers={"content-type": "application/json", **(headers or {})}, allow_redirects=False
            )
        except TimeoutError:
            raise DeliveryPostponed("timeout") from None
        except aiohttp.InvalidURL:
            raise DeliveryRefused("url_invalid") from None
        except aiohttp.ClientSSLError:
            raise DeliveryPostponed("tls_failed") from None
        except (aiohttp.ClientError, OSError):
            raise DeliveryPostponed("unreachable") from None
        response.close()
        status, error = response.status, f"http_{response.status}"
        if 200 <= status < 300:
            return
        if status in _AGAIN or status >= 500 or status < 400:
            raise DeliveryPostponed(error, _retry_after(response.headers.get("retry-after")))
        raise DeliveryRefused(error)

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), headers={"user-agent": "so8t-gateway"}
            )
        return self._session


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number or a date, at most a day; None: neither."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
