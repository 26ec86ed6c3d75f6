"""The data channel of a session: text both ways, in order, whether it is open already or not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

LABEL = "rivulet"
HIGH, LOW = 256 << 10, 64 << 10  # bytes that wait for a client to read them
MOST_WAITING = 1000  # messages before the channel is open


class Channel:
    """Made before the peer has opened its channel. `heard` is given each text that comes."""

    def __init__(self, heard: Callable[[str | bytes], None]) -> None:
        self._heard = heard
        self._waiting: deque[str] = deque()
        self._channel: RTCDataChannel | None = None
        self._room = asyncio.Event()
        self._room.set()

    def take(self, channel: RTCDataChannel) -> None:
        """The peer opened a channel; others than ours, and second ones, are nobody's."""
        if channel.label != LABEL or self._channel is not None:
            channel.close()
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = LOW
        channel.add_listener("message", self._heard)
        channel.add_listener("bufferedamountlow", self._room.set)
        while self._waiting:
            self._say(self._waiting.popleft())

    async def send(self, text: str) -> None:
        """Waits while the peer does not read."""
        await self._room.wait()
        if self._channel is not None:
            self._say(text)
            return
        self._waiting.append(text)
        if len(self._waiting) >= MOST_WAITING:
            self._room.clear()

    async def flushed(self) -> None:
        """Returns when all that was sent has left."""
        while self._channel is not None and self._channel.readyState == "open" and self._channel.bufferedAmount:
            await asyncio.sleep(0.01)

    def _say(self, text: str) -> None:
        assert self._channel is not None
        try:
            self._channel.send(text)
        except (InvalidStateError, ConnectionError):  # it is closing: the connection's end is told elsewhere
            return
        if self._channel.bufferedAmount > HIGH:
            self._room.clear()
        else:
            self._room.set()

    def close(self) -> None:
        """Lets whoever waits go; the peer's end is the connection's."""
        self._room.set()
        self._waiting.clear()
        if self._channel is not None:
            self._channel.remove_all_listeners()
