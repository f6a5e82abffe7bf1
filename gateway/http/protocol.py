"""uvicorn's HTTP protocol with a limit on how long and how large the headers of a request may be.

uvicorn itself waits for ever: a client that drips header bytes, or sends none, keeps its connection (measured).
"""

from asyncio import TimerHandle, Transport
from typing import ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES: Final = 64 * 1024


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request headers are not complete in time or too long."""

    header_timeout_s: ClassVar[float] = 10.0
    _deadline: TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the clock: a silent connection is closed too."""
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count header bytes."""
        before = self._in_headers
        super().data_received(data)
        if before and self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._expire()

    def on_message_begin(self) -> None:
        """Start the clock of the next request on this connection."""
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0
        self._start()

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._stop()
        self._in_headers = False
        super().on_headers_complete()

    def _start(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(self.header_timeout_s, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._stop()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


def protocol(header_timeout_s: float) -> type[LimitedProtocol]:
    """Return the protocol class with this limit."""
    return cast(type[LimitedProtocol], type("Protocol", (LimitedProtocol,), {"header_timeout_s": header_timeout_s}))
