"""A WebRTC client that measures: paced Opus up, and of what comes back the RTP timestamps and when they came.

It neither decodes nor buffers (aiortc's own jitter buffer and decoders are never reached), so that its figures are the
server's, and one process can hold many sessions.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RtpPacket

from clients.bench.sound import Array

RATE = 48_000  # of RTP's clock for Opus (RFC 7587, section 4.1)
FRAME = 960  # samples of a packet: 20 ms
BASE = Fraction(1, RATE)


def encoded(pcm: Array, bitrate: int = 128_000) -> list[bytes]:
    """`[C, T]` at 48 kHz as Opus packets of 20 ms, the last one left out if it is not whole."""
    layout = "stereo" if len(pcm) == 2 else "mono"
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = RATE, layout, "s16", bitrate
    codec.options = {"application": "audio", "frame_duration": "20"}
    packets = []
    whole = pcm.shape[1] // FRAME * FRAME
    frames = np.rint(np.clip(pcm[:, :whole], -1, 1) * 32767).astype(np.int16)
    for at in range(0, whole, FRAME):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(frames[:, at : at + FRAME].T.reshape(1, -1)), "s16", layout
        )
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, BASE
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


@dataclass
class Track:
    """What came of one output: of each packet its place on the session's timeline (sample) and when it came (s)."""

    name: str = ""
    first: int | None = None  # RTP timestamp of sample 0
    arrivals: list[tuple[int, float]] = field(default_factory=list)
    bytes: int = 0

    def take(self, packet: RtpPacket, at: float) -> None:
        """Timestamps wrap at 32 bits; packets may come in any order."""
        if self.first is None:
            self.first = packet.timestamp
        sample = (packet.timestamp - self.first) & 0xFFFFFFFF
        self.arrivals.append((sample - (1 << 32) if sample >> 31 else sample, at))
        self.bytes += len(packet.payload)


class Feed(MediaStreamTrack):
    """Packets round and round, each when its last sample would have been captured. `sent`: when each has left, s."""

    kind = "audio"

    def __init__(self, packets: Sequence[bytes]) -> None:
        super().__init__()
        self.packets, self.sent, self.t0 = packets, list[float](), 0.0
        self.ended = False

    async def recv(self) -> av.Packet[Any]:
        now = asyncio.get_running_loop().time
        while self.ended:
            await asyncio.sleep(3600)
        index = len(self.sent)
        self.t0 = self.t0 or now()
        await asyncio.sleep(self.t0 + (index + 1) * FRAME / RATE - now())
        packet = av.Packet(self.packets[index % len(self.packets)])
        packet.pts, packet.time_base = index * FRAME, BASE
        self.sent.append(now())
        return packet


class Refused(Exception):
    """The server's answer to an offer was no: `status` and its words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class Peer:
    """One session. `outputs`: how many it has. `messages`: everything the data channel said, and when (s)."""

    def __init__(self, packets: Sequence[bytes], outputs: int) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.feed = Feed(packets)
        self.tracks = [Track() for _ in range(outputs)]
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.ready: dict[str, Any] = {}
        self.location = ""
        self._open, self._done = asyncio.Event(), asyncio.Event()
        self.channel = self.connection.createDataChannel("rivulet")
        self.channel.on("message", self._heard)
        self.connection.on("connectionstatechange", self._changed)

    async def start(self, url: str, start: dict[str, Any], token: str | None = None, patience: float = 120.0) -> None:
        """Offer, answer, and `ready`.

        Raises:
            Refused: the server does not want it.
            TimeoutError: no connection came about.
        """
        self.connection.addTransceiver(self.feed, direction="sendrecv")
        for _ in self.tracks[1:]:
            self.connection.addTransceiver("audio", direction="recvonly")
        for track, transceiver in zip(self.tracks, self.connection.getTransceivers(), strict=True):
            self._tap(transceiver.receiver, track)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        local = self.connection.localDescription
        body = {"sdp": local.sdp, "type": local.type, "start": start}
        answer = await asyncio.to_thread(post, f"{url}/v1/rtc", body, token, patience)
        self.location = answer["session"]
        for track, told in zip(self.tracks, answer["tracks"], strict=False):
            track.name = told["name"]
        async with asyncio.timeout(patience):
            await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
            await self._open.wait()

    def _tap(self, receiver: Any, track: Track) -> None:
        async def take(packet: RtpPacket, arrival_time_ms: int) -> None:
            track.take(packet, asyncio.get_running_loop().time())

        receiver._handle_rtp_packet = take

    def _heard(self, text: str) -> None:
        message = json.loads(text)
        self.messages.append((asyncio.get_running_loop().time(), message))
        if message["type"] == "ready":
            self.ready = message
            self._open.set()
        elif message["type"] == "done" or (message["type"] == "error" and message["fatal"]):
            self._open.set()
            self._done.set()

    def _changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):
            self._open.set()
            self._done.set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type."""
        return [message for _, message in self.messages if message["type"] == kind]

    async def end(self, patience: float = 20.0) -> int | None:
        """`end`, and the samples that `done` tells; None if it does not come. What was sent stays: `feed.sent`."""
        self.feed.ended = True  # the last packet may still be on its way: the server waits for it
        if self.channel.readyState == "open":
            self.channel.send(json.dumps({"type": "end"}))
        try:
            async with asyncio.timeout(patience):
                await self._done.wait()
        except TimeoutError:
            return None
        told = self.of("done")
        return int(told[-1]["samples"]) if told else None

    async def close(self) -> None:
        """Hang up."""
        await self.connection.close()


def post(url: str, body: dict[str, Any], token: str | None, patience: float) -> dict[str, Any]:
    """A JSON answer to a JSON question.

    Raises:
        Refused: any status but success.
    """
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=patience) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode(errors="replace")[:500]) from None
