"""The sound that a peer sends, on the exact timeline of its sender."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import numpy as np
from aiortc import RTCRtpReceiver
from aiortc.rtp import RtpPacket

from server.webrtc import clock, packet
from server.webrtc.jitter import JitterBuffer, Piece
from server.webrtc.opus import Decoder
from server.webrtc.tap import tap
from streaming.framing import Array

AT_ONCE = 4800  # samples: a backlog is decoded in such portions, 0.4 ms each
STALL = 10 * clock.RATE // 1000
HUSH, HOLD = 5760, 960  # an invented stretch fades out until here, from here on; then silence


@dataclass(frozen=True)
class Received:
    """Counts since the start. Packets: `lost` were not there in time, `recovered` of these came out of in-band FEC,
    `discarded` came too late, twice or broken. Samples at 48 kHz: `concealed` were invented or silence; `jitter` (RFC 3550)
    and `buffer`, by which packets were held back, are averages of the last moments."""

    packets: int = 0
    lost: int = 0
    recovered: int = 0
    concealed: int = 0
    discarded: int = 0
    jitter: int = 0
    buffer: int = 0


class Repair:
    """Pieces of the timeline to samples: the decoder, and what is invented where nothing came."""

    def __init__(self, channels: int) -> None:
        self._decoder, self._channels = Decoder(channels), channels
        self._invented = 0  # samples in a row
        self.recovered = self.concealed = self.broken = 0

    def pcm(self, piece: Piece) -> Array:
        """`[C, piece.samples]`."""
        if piece.payload is None:
            return self._gap(piece)
        try:
            pcm = self._decoder.decode(piece.payload)[:, piece.skip :]
        except ValueError:
            self.broken += 1
            return self._conceal(piece.samples)
        self._invented = 0
        return pcm

    def _gap(self, piece: Piece) -> Array:
        following = piece.following
        if following is None or not packet.carries_previous(following):
            return self._conceal(piece.samples)
        # The copy is as long as the packet that holds it; what lies before stays invented.
        copied = min(packet.samples(following), piece.samples)
        before = self._conceal(piece.samples - copied)
        try:
            pcm = self._decoder.recover(following, copied)
        except ValueError:
            self.broken += 1
            pcm = self._conceal(copied)
        else:
            self.recovered += 1
            self._invented = 0
        return np.concatenate((before, pcm), axis=1)

    def _conceal(self, samples: int) -> Array:
        """What was heard last goes on, fading, for 120 ms."""
        pcm = np.zeros((self._channels, samples), np.float32)
        audible = min(samples, max(HUSH - self._invented, 0))
        if audible:
            left = HUSH - self._invented - np.arange(audible, dtype=np.float32)
            pcm[:, :audible] = self._decoder.conceal(audible) * np.minimum(left / (HUSH - HOLD), 1)
        self._invented += samples
        self.concealed += samples
        return pcm


class Incoming:
    """Taps the receiver: `receiver.track` gives nothing any more. To be made as soon as the receiver exists, which is before
    the connection is up: what came earlier is lost.

    Raises:
        RuntimeError: this aiortc is not built as expected, or there is no libopus.
    """

    def __init__(self, receiver: RTCRtpReceiver, channels: int) -> None:
        self._buffer, self._repair = JitterBuffer(), Repair(channels)
        self._pieces: deque[Piece] = deque()
        self._more, self._ended = asyncio.Event(), False
        tap(receiver, self._hear, self.end)

    def _hear(self, rtp: RtpPacket) -> None:
        self._buffer.push(rtp.sequence_number, rtp.timestamp, rtp.payload, clock.now(), rtp.ssrc)
        self._more.set()

    def end(self) -> None:
        """Nothing more will come: `pcm` tells what is there, then None."""
        self._ended = True
        self._more.set()

    async def pcm(self) -> Array | None:
        """The next samples, `[C, T]` float32 at 48 kHz, T > 0, as soon as they are due; None at the end (BYE, the transport
        is closed, `end`). Sample 0 is the first of the first packet."""
        while True:
            self._pieces += self._buffer.finish() if self._ended else self._buffer.pull(clock.now())
            if self._pieces:
                return self._decoded()
            if self._ended:
                return None
            await self._wait()

    async def _wait(self) -> None:
        """For a packet, or for the time at which a missing one is given up."""
        self._more.clear()
        due = self._buffer.due()
        try:
            async with asyncio.timeout(None if due is None else max(due - clock.now(), 0) / clock.RATE):
                await self._more.wait()
        except TimeoutError:
            # Woken late, the whole loop was held up: what came meanwhile is not lost, but still to be read.
            if due is not None and clock.now() - due > STALL:
                await asyncio.sleep(STALL / clock.RATE)

    def _decoded(self) -> Array:
        parts, samples = [], 0
        while self._pieces and samples < AT_ONCE:
            parts.append(self._repair.pcm(self._pieces.popleft()))
            samples += parts[-1].shape[1]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    @property
    def received(self) -> Received:
        buffer, repair = self._buffer, self._repair
        return Received(
            packets=buffer.packets,
            lost=buffer.lost,
            recovered=repair.recovered,
            concealed=repair.concealed,
            discarded=buffer.discarded + repair.broken,
            jitter=buffer.jitter,
            buffer=buffer.waited >> 4,
        )
