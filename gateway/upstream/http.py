"""A model server over HTTP: one pooled session, the gateway's own key, no redirects, no client headers."""

from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from gateway.errors import UpstreamError
from gateway.upstream.base import Inbound, Outbound

MAX_REPLY: Final = 16 * 1024 * 1024
MESSAGES: Final = "/messages"
"""The one path whose servers want the key and the API's version in headers of their own."""
VERSION: Final = "2023-06-01"


class HttpInbound:
    """An aiohttp response under the upstream contract."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.event_stream = response.content_type == "text/event-stream"
        self.retry_after = response.headers.get("retry-after")

    async def read(self) -> bytes:
        """Return the whole body, at most ``MAX_REPLY`` bytes."""
        pieces = []
        size = 0
        async for piece in self.chunks():
            size += len(piece)
            if size > MAX_REPLY:
                raise UpstreamError("invalid", f"the upstream's answer is longer than {MAX_REPLY} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except TimeoutError:
            raise UpstreamError("timeout", "the upstream stopped answering") from None
        except aiohttp.ClientError as error:
            raise UpstreamError("invalid", f"the upstream's answer broke off ({type(error).__name__})") from None

    async def close(self) -> None:
        """Give the connection back to the pool, or close it when the body was not read to its end."""
        self._response.close()


class HttpUpstream:
    """``url`` is the base, such as ``https://api.openai.com/v1``.

    ``key`` goes out as a bearer token when given, and as ``x-api-key`` where the Messages API is called.
    """

    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, url: str, key: str | None, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s, sock_read=read_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=self._timeout,
                headers={"content-type": "application/json"},
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _headers(self, path: str, version: str | None) -> dict[str, str]:
        if path == MESSAGES:
            return {"anthropic-version": version or VERSION} | ({"x-api-key": self._key} if self._key else {})
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    async def _start(self, method: str, path: str, body: bytes | None, version: str | None = None) -> HttpInbound:
        headers = self._headers(path, version)
        try:
            response = await self._open().request(
                method, self._url + path, data=body, headers=headers, allow_redirects=False
            )
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamError("timeout", "the upstream did not answer in time", sent=False) from None
        except TimeoutError:
            raise UpstreamError("timeout", "the upstream did not answer in time") from None
        except aiohttp.ClientConnectorError:
            raise UpstreamError("unreachable", "the upstream cannot be reached", sent=False) from None
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            raise UpstreamError("unreachable", "the upstream cannot be reached") from None
        except aiohttp.ClientError as error:
            raise UpstreamError("invalid", f"the upstream's answer broke off ({type(error).__name__})") from None
        inbound = HttpInbound(response)
        if 300 <= inbound.status < 400 or inbound.status < 200:
            await inbound.close()
            raise UpstreamError(
                "invalid", f"the upstream answered with status {inbound.status}; redirects are not followed"
            )
        return inbound

    async def send(self, outbound: Outbound) -> Inbound:
        """POST the body to its path."""
        return await self._start("POST", outbound.path, outbound.body, outbound.version)

    async def models(self) -> Inbound:
        """GET ``/models``."""
        return await self._start("GET", "/models", None)

    async def reachable(self) -> bool:
        """Tell whether ``/models`` is answered with any status."""
        try:
            inbound = await self.models()
        except UpstreamError:
            return False
        await inbound.close()
        return True

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()
