"""What a session needs of a connection, be it a WebSocket or a WebRTC peer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from streaming.wire import ClientError


class Gone(Exception):
    """The peer left without `end`."""


class Transport(Protocol):
    """A WebSocket, or two queues in a test."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the peer is gone."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Returns when the message is on its way; waits while the peer does not read."""
        ...

    def expect(self, bytes_per_s: float) -> None:
        """So much will be sent: buffers should hold little more than a moment of it."""
        ...


async def receive(transport: Transport, seconds: float | None) -> str | bytes:
    """The next message.

    Raises:
        ClientError: none within so many seconds.
        Gone: the peer left.
    """
    try:
        async with asyncio.timeout(seconds):
            message = await transport.receive()
    except TimeoutError:
        raise ClientError("timeout", f"nothing came for {seconds:g} s") from None
    if message is None:
        raise Gone
    return message
