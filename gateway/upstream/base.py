"""What the pipeline asks of an upstream, whichever it is."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from gateway.parts import Conversation


@dataclass(frozen=True, slots=True)
class Outbound:
    """An allowed request on its way: our encoding of it, and what a built-in model needs to answer it.

    ``path`` is below the upstream's base URL; ``version`` of the API is told where the path's format has one.
    """

    body: bytes
    stream: bool
    model: str
    conversation: Conversation
    choices: int = 1
    max_tokens: int | None = None
    include_usage: bool = False
    path: str = "/chat/completions"
    version: str | None = None


class Inbound(Protocol):
    """An answer that has begun. ``read`` or ``chunks`` may be called, once; leaving the context closes it."""

    status: int
    event_stream: bool
    retry_after: str | None

    async def read(self) -> bytes:
        """Return the whole body; raise UpstreamError when it is too long or breaks off."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise UpstreamError when it breaks off."""
        ...

    async def close(self) -> None:
        """Give the connection back, or abort what is still running."""
        ...


class Upstream(Protocol):
    """A model server. ``headers`` tell the client who answers, where that is not what it would expect."""

    headers: tuple[tuple[bytes, bytes], ...]

    async def send(self, outbound: Outbound) -> Inbound:
        """Start ``outbound`` and return once the status is known; raise UpstreamError or NotFoundError."""
        ...

    async def models(self) -> Inbound:
        """Start a listing of the models."""
        ...

    async def reachable(self) -> bool:
        """Tell whether the upstream answers at all."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
