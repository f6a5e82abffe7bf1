"""Server-sent events: an incremental parser and a writer."""

import re
from typing import Final

from gateway.errors import UpstreamError

MAX_EVENT: Final = 4 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,128}")
DONE: Final = b"data: [DONE]\n\n"


def write_event(data: bytes) -> bytes:
    """Frame ``data`` as one event, whatever line breaks stand between its JSON tokens."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def write_named(name: str, data: bytes) -> bytes:
    """Frame ``data`` as one event with a name, which must be a plain one."""
    if not _NAME.fullmatch(name):
        raise UpstreamError("invalid", "the upstream sent an event without a plain type")
    return b"event: " + name.encode() + b"\n" + write_event(data)


def write_comment(text: str) -> bytes:
    """Return a comment line, which clients ignore: a sign of life."""
    return f": {text}\n\n".encode()


class EventParser:
    r"""Splits a byte stream into the data of its events; lines end with ``\n``, ``\r\n`` or ``\r``.

    Comments and the fields ``event``, ``id`` and ``retry`` say nothing in this protocol and are left out.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that ``chunk`` completes."""
        buffer = self._rest + chunk
        if b"\r" in buffer:
            held = buffer.endswith(b"\r")  # its \n may come with the next chunk
            body = buffer[:-1] if held else buffer
            buffer = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if held else b"")
        lines = buffer.split(b"\n")
        self._rest = lines.pop()
        events = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                events.append(self._take())
        if len(self._rest) + self._size > MAX_EVENT:
            raise UpstreamError("invalid", f"the upstream sent an event of more than {MAX_EVENT} bytes")
        return events

    def close(self) -> list[bytes]:
        """Return the data of a last event that the stream's end cuts short of its blank line."""
        if self._rest.rstrip(b"\r"):
            self._line(self._rest.rstrip(b"\r"))
        self._rest = b""
        return [self._take()] if self._data else []

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)

    def _take(self) -> bytes:
        data = b"\n".join(self._data)
        self._data = []
        self._size = 0
        return data
