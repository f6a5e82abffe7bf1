"""A stream of events on its way through: what of it may pass, and what waits for a decision."""

from abc import ABC, abstractmethod
from typing import Final

from gateway.errors import UpstreamError
from gateway.wire.format import Notice, Problem, Reply
from gateway.wire.sse import EventParser, write_event

MAX_STREAM: Final = 16 * 1024 * 1024
"""Bytes of one streamed reply."""


class Hold(ABC):
    """Lets text through as it comes; from the first piece of an action on, in any choice, everything is held.

    A format says what an event adds to the reply, when the stream is complete, and how it ends.
    """

    end = b""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.done = False
        self.begun = False
        self._parser = EventParser()
        self._size = 0

    @property
    @abstractmethod
    def acts(self) -> bool:
        """Whether anything that a client would execute has begun."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether everything that began has ended."""

    @property
    def open_choices(self) -> tuple[int, ...]:
        """Indices of the choices that have no end yet; the first one where none began."""
        return (0,)

    @abstractmethod
    def parsed(self) -> Reply:
        """Return the reply so far."""

    @abstractmethod
    def refusal(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a refusal."""

    @abstractmethod
    def answer(self, notice: Notice) -> list[bytes]:
        """Return the events that end the stream, as far as it was passed on, with a normal answer."""

    @abstractmethod
    def error(self, problem: Problem) -> list[bytes]:
        """Return the events that end the stream with an error."""

    @abstractmethod
    def _add(self, data: bytes) -> None:
        """Add one event's data; raise UpstreamError(invalid) if it is none of this format, or is an error."""

    def _ends(self, data: bytes) -> bool:
        """Tell whether ``data`` is the end marker of the stream, which is not passed on."""
        return data == b"[DONE]"

    def _frame(self, data: bytes) -> bytes:
        return write_event(data)

    def _passed(self, data: bytes) -> None:
        """Take note that the client gets ``data``."""
        self.begun = True

    def feed(self, piece: bytes) -> bytes:
        """Take what the upstream sent; return what may pass."""
        self._size += len(piece)
        if self._size > MAX_STREAM:
            raise UpstreamError("invalid", f"the upstream's stream is longer than {MAX_STREAM} bytes")
        return self._take(self._parser.feed(piece))

    def finish(self) -> bytes:
        """Take the end of the stream; raise UpstreamError(invalid) if it broke off; return what may pass."""
        passed = b"" if self.done else self._take(self._parser.close())
        if not self.done and not self.complete:
            raise UpstreamError("invalid", "the upstream's stream broke off")
        return passed

    def _take(self, events: list[bytes]) -> bytes:
        passed: list[bytes] = []
        for data in events:
            if self.done:
                raise UpstreamError("invalid", "the upstream's stream goes on after its end")
            if self._ends(data):
                self.done = True
                continue
            if not data:
                continue
            self._add(data)
            framed = self._frame(data)
            if self.acts:
                self.held.append(framed)
            else:
                self._passed(data)
                passed.append(framed)
        return b"".join(passed)
