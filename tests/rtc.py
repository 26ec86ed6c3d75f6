"""A WebRTC client for tests: aiortc's peer connection, and what came over each track on its exact timeline."""

from __future__ import annotations

import asyncio
import fractions
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtp import RtpPacket
from av import AudioFrame
from serving import entry

from models.separator import Spec
from server.webrtc.opus import Decoder
from server.webrtc.packet import samples
from server.webrtc.tap import tap
from streaming.framing import Array, Framing

RATE, FRAME = 48_000, 960
ALONE = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)


class Sound(MediaStreamTrack):
    """PCM `[2, T]`, in real time, from when `go` is set."""

    kind = "audio"

    def __init__(self, pcm: Array) -> None:
        super().__init__()
        self._pcm, self._at, self._began = pcm, 0, 0.0
        self.go, self.out = asyncio.Event(), asyncio.Event()

    async def recv(self) -> AudioFrame:
        await self.go.wait()
        loop = asyncio.get_running_loop()
        self._began = self._began or loop.time()
        if self._at >= self._pcm.shape[1]:
            self.out.set()
            await asyncio.Event().wait()
        await asyncio.sleep(max(0.0, self._began + self._at / RATE - loop.time()))
        part = np.clip(self._pcm[:, self._at : self._at + FRAME].T * 32768, -32768, 32767).astype("<i2")
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(part).reshape(1, -1), "s16", "stereo")
        frame.pts, frame.sample_rate, frame.time_base = self._at, RATE, fractions.Fraction(1, RATE)
        self._at += FRAME
        return frame


@dataclass
class Heard:
    """RTP packets of one track, as they came."""

    packets: list[RtpPacket] = field(default_factory=list)

    def pcm(self) -> Array:
        """`[2, T]`."""
        decoder = Decoder(2)
        return np.concatenate([decoder.decode(one.payload) for one in self.packets], axis=1)

    @property
    def steps(self) -> set[int]:
        """What the RTP timestamps go on by, beyond the length of each packet: {0} on a whole timeline."""
        return {
            (b.timestamp - a.timestamp - samples(a.payload)) % (1 << 32)
            for a, b in zip(self.packets, self.packets[1:], strict=False)
        }

    @property
    def samples(self) -> int:
        return sum(samples(one.payload) for one in self.packets)


class Client:
    """`tracks` audio m-lines, the first of them with `sound` up."""

    def __init__(
        self,
        host: str,
        sound: MediaStreamTrack | None,
        tracks: int,
        data: bool = True,
        ice: RTCConfiguration = ALONE,
    ) -> None:
        self.host, self.http = host, httpx.AsyncClient(base_url=f"http://{host}", timeout=120)
        self.pc, self.texts = RTCPeerConnection(ice), list[dict[str, Any]]()
        self.heard = [Heard() for _ in range(tracks)]
        self.answer: dict[str, Any] = {}
        self.more, self.closed = asyncio.Event(), asyncio.Event()
        for index in range(tracks):
            first = index == 0 and sound is not None
            made = self.pc.addTransceiver(sound if first else "audio", "sendrecv" if first else "recvonly")
            self._tap(made.receiver, self.heard[index])
        if data:
            self.channel = self.pc.createDataChannel("rivulet")
            self.channel.on("message", self._text)
        self.pc.on("connectionstatechange", self._state)

    def _tap(self, receiver: RTCRtpReceiver, heard: Heard) -> None:
        tap(receiver, heard.packets.append, lambda: None)

    def _text(self, text: str) -> None:
        self.texts.append(json.loads(text))
        self.more.set()

    def _state(self) -> None:
        if self.pc.connectionState in ("closed", "failed"):
            self.closed.set()

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def post(self, start: dict[str, Any], edit: Callable[[str], str] = str, **more: Any) -> httpx.Response:
        """The server's answer to the offer; taken, if it is one."""
        body = {"sdp": edit(await self.offer()), "type": "offer", "start": start}
        response = await self.http.post("/v1/rtc", json=body, **more)
        if response.status_code == 201:
            self.answer = response.json()
            await self.take(self.answer["sdp"])
        return response

    async def take(self, sdp: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def text(self, kind: str, seconds: float = 60, **fields: Any) -> dict[str, Any]:
        """The first message of this type, with these fields, that has come or comes."""
        async with asyncio.timeout(seconds):
            while True:
                self.more.clear()
                for one in self.texts:
                    if one["type"] == kind and fields.items() <= one.items():
                        return one
                await self.more.wait()

    def say(self, kind: str, **fields: Any) -> None:
        self.channel.send(json.dumps({"type": kind, **fields}))

    async def close(self) -> None:
        await self.pc.close()
        await self.http.aclose()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def tone(hertz: Sequence[float], seconds: float, level: float = 0.2) -> Array:
    """A sum of sines, `[2, T]`."""
    time = np.arange(round(seconds * RATE)) / RATE
    mono = sum(np.sin(2 * np.pi * one * time) for one in hertz) * level
    return np.tile(mono, (2, 1)).astype(np.float32)


def level(pcm: Array, hertz: float) -> float:
    """The amplitude of a sine in `[C, T]`."""
    mono = pcm.mean(axis=0)
    time = np.arange(len(mono)) / RATE
    return float(2 * abs(np.mean(mono * np.exp(-2j * np.pi * hertz * time))))


@dataclass(frozen=True)
class Four:
    """Stereo at 48 kHz: the left channel, the right one, half of both, and nothing. Told by what comes out."""

    spec: Spec = Spec("four", RATE, 2, ("drums", "bass", "other", "vocals"), Framing(window=480, hop=480))

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        left, right = np.array([[1], [0]], np.float32), np.array([[0], [1]], np.float32)
        stems = (pcm * left, pcm * right, pcm * np.float32(0.5), pcm * np.float32(0))
        return np.stack(stems, axis=1), list(states)


FOUR = {"four": entry(Four())}
