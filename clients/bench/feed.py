"""A paced session that goes on until it is told to end, measured in constant memory.

Its latencies are those of `clients.bench.timeline`: the arrival of an output chunk minus the leaving of the packet that
holds its first sample.
"""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass

from rivulet_client.codec import Done, Error, Ready, decode, encode, header
from rivulet_client.errors import ProtocolError, RivuletError
from rivulet_client.handshake import hang_up
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from clients.bench.histogram import Histogram
from clients.bench.session import Load

REMEMBERED = 1 << 14  # packets whose leaving is known: 160 s of 10 ms
PATIENCE = 30.0  # s for the rest to come after `end`


@dataclass(frozen=True)
class Figures:
    """One session since it was last reset; `samples_in`, `samples_out` and `failure` since it began."""

    model: str
    declared_ms: float
    latency: Histogram
    slip: Histogram
    late: int
    samples_in: int
    samples_out: int
    failure: str | None

    @property
    def kept(self) -> bool:
        """Whether the promise was kept: p99, by nearest rank, is not above it. By the count of the late, so exactly."""
        return self.failure is None and self.latency.count > 0 and self.late <= self.latency.count // 100


class Feed:
    """Sends from the moment it is made. `told`: samples that came back; `failure`: why it ended before it was told to."""

    def __init__(self, socket: ClientConnection, ready: Ready, load: Load) -> None:
        self.socket, self.ready, self.load = socket, ready, load
        self.packets = self.told = 0
        self.failure: str | None = None
        self.done: int | None = None
        self._left = array("d", bytes(8 * REMEMBERED))
        self._now, self._ending = asyncio.get_running_loop().time, False
        self.reset()
        self.sending = asyncio.create_task(self._send())
        self.receiving = asyncio.create_task(self._receive())

    def reset(self) -> None:
        """Counts from here on."""
        self._latency, self._slip, self._late = Histogram(), Histogram(), 0

    def figures(self) -> Figures:
        """Histograms are not copied: `reset` makes new ones."""
        return Figures(
            self.load.start.model, self.ready.latency_ms, self._latency, self._slip, self._late,
            self.packets * self.load.packet, self.told, self.failure,
        )  # fmt: skip

    async def finish(self) -> Figures:
        """Says `end`, reads the rest, closes; every sample must have come back, or it is a failure."""
        self._ending = True
        done, _ = await asyncio.wait([self.receiving], timeout=PATIENCE)
        await self.leave()
        sent = self.packets * self.load.packet
        if self.failure is None and not (done and sent == self.told == self.done):
            self.failure = f"{sent} samples in, {self.told} out, done says {self.done}"
        return self.figures()

    async def leave(self) -> None:
        """Ends both tasks and closes, whatever state the session is in."""
        self.sending.cancel()
        self.receiving.cancel()
        await asyncio.gather(self.sending, self.receiving, return_exceptions=True)
        await hang_up(self.socket)

    async def _send(self) -> None:
        t0, period = self._now(), self.load.packet / self.load.start.rate
        try:
            while not self._ending:
                due = t0 + (self.packets + 1) * period
                await asyncio.sleep(due - self._now())
                self._left[self.packets % REMEMBERED] = at = self._now()
                self._slip.add(at - due)
                self.packets += 1
                await self.socket.send(self.load.data[(self.packets - 1) % len(self.load.data)])
            await self.socket.send(encode("end"))
        except ConnectionClosed:
            pass  # the one that receives says why

    async def _receive(self) -> None:
        try:
            while self.done is None:
                self.take(await self.socket.recv())
        except ConnectionClosed as closed:
            self.failure = self.failure or f"the connection ended before done ({closed})"
        except RivuletError as error:
            self.failure = str(error)
            self.sending.cancel()

    def take(self, message: str | bytes) -> None:
        """What came; chunks are counted here.

        Raises:
            ProtocolError: a gap, or what cannot be.
            RivuletError: the server's own fatal error.
        """
        if isinstance(message, bytes):
            return self._chunk(message)
        body = decode(message)
        if isinstance(body, Done):
            self.done = body.samples
        elif isinstance(body, Error) and body.fatal:
            raise RivuletError(body.code, body.message)

    def _chunk(self, message: bytes) -> None:
        at, head = self._now(), header(message)
        packet = head.start // self.load.packet
        if head.start != self.told:
            raise ProtocolError(f"got stems from sample {head.start}, expected {self.told}")
        self.told += head.frames
        if self.told > self.packets * self.load.packet or packet < self.packets - REMEMBERED:
            raise ProtocolError(f"got stems of samples {head.start} to {self.told} when packet {self.packets} had left")
        if head.frames:
            latency = at - self._left[packet % REMEMBERED]
            self._latency.add(latency)
            self._late += 1000 * latency > self.ready.latency_ms
