"""What every channel does."""

from typing import Protocol

from gateway.escalation.notices import Notice


class Channel(Protocol):
    """A way to tell people."""

    async def send(self, notice: Notice) -> None:
        """Hand the notice over, with the same id each time; DeliveryPostponed or DeliveryRefused when not taken."""

    async def close(self) -> None:
        """Give back connections."""
