"""Two real peer connections in one process, over a network with knobs: chosen packets are lost, late, doubled or out of order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpReceiver

Fate = Callable[[int], list[float]]  # of the n-th RTP packet: after how many seconds each copy arrives


def perfect(number: int) -> list[float]:
    return [0.0]


@dataclass
class Weather:
    """Loses packets and delays them, the same ones every time."""

    loss: float = 0.0
    jitter: float = 0.0  # s
    double: float = 0.0
    seed: int = 1

    def __call__(self, number: int) -> list[float]:
        chance = random.Random(self.seed * 1_000_003 + number)
        copies = 0 if chance.random() < self.loss else 2 if chance.random() < self.double else 1
        return [chance.random() * self.jitter for _ in range(copies)]


class Network:
    """Between a peer and the other: its RTP goes through `fate`, all else (STUN, DTLS, RTCP) as it is."""

    def __init__(self, peer: RTCPeerConnection, fate: Fate) -> None:
        self.peer, self.fate, self.count, self.lost = peer, fate, 0, 0
        self._ice: Any = peer.getTransceivers()[0].receiver.transport.transport
        self._send = self._ice._send
        self._ice._send = self._pass
        self._tasks: set[asyncio.Task[None]] = set()

    async def _pass(self, data: bytes) -> None:
        if not (128 <= data[0] < 192 and not 64 <= data[1] & 127 < 96):  # RFC 7983, RFC 5761
            return await self._send(data)
        fates = self.fate(self.count)
        self.count += 1
        self.lost += not fates
        for seconds in fates:
            if seconds == 0:
                await self._send(data)
            else:
                task = asyncio.create_task(self._later(data, seconds))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _later(self, data: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._send(data)
        except ConnectionError:
            pass


@asynccontextmanager
async def connected(
    tracks: list[MediaStreamTrack], took: Callable[[RTCRtpReceiver], object], fate: Fate = perfect
) -> AsyncIterator[Network]:
    """One peer sends these tracks to another; `took` gets the other's receivers before the connection is up."""
    here, there = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    up = asyncio.Event()
    there.on("connectionstatechange", lambda: up.set() if there.connectionState == "connected" else None)
    for track in tracks:
        here.addTrack(track)
    try:
        await here.setLocalDescription(await here.createOffer())
        await there.setRemoteDescription(here.localDescription)
        for transceiver in there.getTransceivers():
            took(transceiver.receiver)
        network = Network(here, fate)
        await there.setLocalDescription(await there.createAnswer())
        await here.setRemoteDescription(there.localDescription)
        async with asyncio.timeout(60):
            await up.wait()
        yield network
    finally:
        await asyncio.gather(here.close(), there.close())
