"""A track of packets that are encoded already."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import Packet

MOST_WAITING = 100  # packets: 2 s; who does not take them loses the oldest


class PacketTrack(MediaStreamTrack):
    """Hands out what `put` gets, from the first `recv` on: before it there is no connection to send over.

    Args:
        stopped: called when nobody will read it any more.
    """

    kind = "audio"

    def __init__(self, stopped: Callable[[PacketTrack], None]) -> None:
        super().__init__()
        self._stopped = stopped
        self._packets: deque[Packet[Any]] = deque()
        self._more = asyncio.Event()
        self.reading = False
        self.dropped = 0

    def put(self, packet: Packet[Any]) -> None:
        if len(self._packets) >= MOST_WAITING:
            self._packets.popleft()
            self.dropped += 1
        self._packets.append(packet)
        self._more.set()

    @property
    def empty(self) -> bool:
        return not self._packets

    async def recv(self) -> Packet[Any]:
        """The next packet; `pts` is the index of its first sample, at 48 kHz.

        Raises:
            MediaStreamError: the track has ended.
        """
        self.reading = True
        while not self._packets:
            if self.readyState != "live":
                raise MediaStreamError
            self._more.clear()
            await self._more.wait()
        return self._packets.popleft()

    def stop(self) -> None:
        if self.readyState == "live":
            super().stop()
            self._stopped(self)
            self._packets.clear()
            self._more.set()
