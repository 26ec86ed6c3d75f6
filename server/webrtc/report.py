"""What the network did to a session's sound: told to the client about once a second, and counted for the operator."""

from __future__ import annotations

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
    """A track that remembers which sample it gave last."""

    kind = "audio"

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self._track = track
        self.sample: int | None = None

    async def recv(self) -> Packet[Any]:
        packet = cast("Packet[Any]", await self._track.recv())
        self.sample = packet.pts
        return packet

    def stop(self) -> None:
        super().stop()
        self._track.stop()


class Report:
    """Of one session."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted = Received()
        self._first: Stamped | None = None
        self._sender: RTCRtpSender | None = None
        self._mid = ""

    def watch(self, track: MediaStreamTrack) -> MediaStreamTrack:
        """The track that the clock is told of, to be sent in place of this one."""
        self._first = Stamped(track)
        return self._first

    def sends(self, sender: RTCRtpSender, mid: str) -> None:
        """Who sends that track, on which m-line."""
        self._sender, self._mid = sender, mid

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
            body |= self._clock()
        return body

    def _clock(self) -> dict[str, Any]:
        """The last packet of the first track: which sample of the session it began with, and its RTP timestamp."""
        stamp = getattr(self._sender, STAMP, None)
        if stamp is None or self._first is None or self._first.sample is None:
            return {}
        return {"clock": {"sample": self._first.sample, "mid": self._mid, "rtp": stamp}}
