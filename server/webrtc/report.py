"""What the network did to a session's sound: told to the client about once a second, and counted for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from aiortc import MediaStreamTrack, RTCRtpSender
from av import Packet

from server.metrics import Metrics
from server.webrtc.opus import RATE
from server.webrtc.receive import Incoming, Received
from server.webrtc.send import Outgoing

COUNTS = ("packets", "lost", "recovered", "concealed", "discarded")
STAMP = "_RTCRtpSender__rtp_timestamp"  # of the last packet; nothing that is public tells the origin, which is random


class Stamped(MediaStreamTrack):
    """A track that knows which of its samples went out as which RTP timestamp: every track has an origin of its own."""

    kind = "audio"

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self._track = track
        self._given: int | None = None
        self._sender: RTCRtpSender | None = None
        self._mid = ""
        self._clock: dict[str, Any] | None = None

    def sent_by(self, sender: RTCRtpSender, mid: str) -> None:
        self._sender, self._mid = sender, mid

    async def recv(self) -> Packet[Any]:
        # Who asks for a packet has sent the one before.
        stamp = getattr(self._sender, STAMP, None)
        if self._given is not None and stamp is not None:
            self._clock = {"sample": self._given, "mid": self._mid, "rtp": stamp}
        packet = cast("Packet[Any]", await self._track.recv())
        self._given = packet.pts
        return packet

    @property
    def clock(self) -> dict[str, Any] | None:
        """The first sample of the last packet that has left, and its RTP timestamp; None before there was one."""
        return self._clock

    def stop(self) -> None:
        super().stop()
        self._track.stop()


class Report:
    """Of one session."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted = Received()
        self._tracks: list[Stamped] = []

    def watch(self, track: MediaStreamTrack) -> MediaStreamTrack:
        """The track whose clock is told, to be sent in place of this one."""
        self._tracks.append(Stamped(track))
        return self._tracks[-1]

    def sends(self, senders: Sequence[RTCRtpSender], mids: Sequence[str]) -> None:
        """Who sends those tracks, in their order, on which m-lines."""
        for track, sender, mid in zip(self._tracks, senders, mids, strict=True):
            track.sent_by(sender, mid)

    def told(self, incoming: Incoming | None, outgoing: Outgoing | None) -> dict[str, Any]:
        """The message `media`; counts what is new since the last one."""
        got = incoming.received if incoming else Received()
        for what in COUNTS:
            self._metrics.rtc_packets.labels(what).inc(max(getattr(got, what) - getattr(self._counted, what), 0))
        self._counted = got
        body = {
            "type": "media",
            "jitter_ms": round(1000 * got.jitter / RATE, 2),
            "buffer_ms": round(1000 * got.buffer / RATE, 2),
            "lost": got.lost,
            "concealed": got.concealed,
            "recovered": got.recovered,
            "discarded": got.discarded,
        }
        if outgoing is not None:
            sent = outgoing.sent
            body |= {"encode_ms": round(1000 * sent.encode, 3), "behind_ms": round(1000 * sent.behind, 1)}
            body |= self._clocks()
        return body

    def _clocks(self) -> dict[str, Any]:
        """Of each track that has sent; `clock` is the first one's."""
        clocks = [track.clock for track in self._tracks if track.clock is not None]
        return {"clock": clocks[0], "clocks": clocks} if clocks else {}
