"""The encoders of a session: one an output that somebody listens to, for all who listen to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from av import Packet

from server.webrtc.frames import Frame
from server.webrtc.opus import LOOKAHEAD, RATE, Coding, Encoder
from streaming.framing import Array

TIME_BASE = Fraction(1, RATE)
# Encoding a stereo packet takes 0.2 ms, without the interpreter's lock; a thread costs half of that. So one is encoded here.
HERE = 1


class Encoders:
    """By output; made when first asked for, primed with the sound before, and gone when not asked for."""

    def __init__(self, channels: int, coding: Coding) -> None:
        self._channels, self._coding = channels, coding
        self._encoders: dict[str, Encoder] = {}
        self.seconds = 0.0  # that the last frame took

    async def packets(self, frame: Frame, outputs: Mapping[str, Array]) -> dict[str, Packet[Any]]:
        """A packet an output, of `[C, lookahead + frame]` each."""
        self._encoders = {name: encoder for name, encoder in self._encoders.items() if name in outputs}
        if len(outputs) > HERE:
            payloads = await asyncio.to_thread(self._encode, outputs)
        else:
            payloads = self._encode(outputs)
        return {name: _packet(payload, frame.start, self._coding.frame) for name, payload in payloads.items()}

    def _encode(self, outputs: Mapping[str, Array]) -> dict[str, bytes]:
        began = time.perf_counter()
        payloads = {}
        for name, pcm in outputs.items():
            if (encoder := self._encoders.get(name)) is None:
                encoder = self._encoders[name] = Encoder(self._channels, self._coding)
                encoder.prime(pcm[:, :LOOKAHEAD])
            payloads[name] = encoder.encode(pcm[:, LOOKAHEAD:])
        self.seconds = time.perf_counter() - began
        return payloads


def _packet(payload: bytes, start: int, samples: int) -> Packet[Any]:
    packet: Packet[Any] = Packet(payload)
    packet.pts, packet.time_base, packet.duration = start, TIME_BASE, samples
    return packet
