"""How much audio may hide between `send` and a client that does not read: bounded by time, not by bytes.

A reader that stalls is known of only when every buffer on the way is full. Defaults (64 KiB here, megabytes in the kernel)
are 5 s of four stereo stems and a minute of speech; so each connection gets buffers in proportion to what it sends.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION = "rivulet.tcp"
KERNEL_S, OWN_S = 0.15, 0.05  # seconds of audio; Linux doubles the former, for what it spends on keeping it
MOST_UNREAD = 1 << 20  # bytes
FAREWELL_S = 2.0  # that a last word may take to a peer that does not read
LEAST, MOST = 4 << 10, 256 << 10  # bytes


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's, but the application is given the connection, as ASGI has no word for its buffers; and who has answers sent
    (pongs) and does not read them is cut before they fill the memory."""

    def handle_ping(self) -> None:
        super().handle_ping()
        if not self.transport.is_closing() and self.transport.get_write_buffer_size() > MOST_UNREAD:
            self.transport.abort()

    async def run_asgi(self) -> None:
        extensions: Any = self.scope.setdefault("extensions", {})
        extensions[EXTENSION] = self.transport
        await super().run_asgi()
        # A peer that does not read: an orderly close would wait for it for ever.
        if not self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(FAREWELL_S, self.transport.abort)


def bound(scope: Any, bytes_per_s: float) -> None:
    """Buffers for a connection that sends so much; of another server than this, nothing."""
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(EXTENSION)
    if transport is None or transport.is_closing():
        return
    transport.set_write_buffer_limits(high=_within(bytes_per_s * OWN_S))
    if tcp := transport.get_extra_info("socket"):
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _within(bytes_per_s * KERNEL_S))


def _within(size: float) -> int:
    return round(min(max(size, LEAST), MOST))


def cut(scope: Any) -> None:
    """End the connection now, whatever waits in it."""
    if transport := scope.get("extensions", {}).get(EXTENSION):
        transport.abort()
