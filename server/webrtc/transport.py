"""A peer connection as a session's transport: sound in by RTP, stems out by RTP, all else over the data channel.

The session begins before the peer is answered, because its `ready` decides how many tracks the answer has. It is the same
session as over a WebSocket; what differs is told here: `ready` has `tracks`, `end` waits for what is on its way, `done` comes
when the last packet has left, and `media` tells what the network did.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack, RTCRtpSender

from server.metrics import Metrics
from server.transport import Gone
from server.webrtc.channel import Channel
from server.webrtc.opus import Coding
from server.webrtc.receive import Incoming
from server.webrtc.report import Report
from server.webrtc.send import Outgoing
from server.webrtc.waiting import first_of
from streaming import binary, wire
from streaming.wire import ClientError

log = logging.getLogger(__name__)
RATE = 48_000
MEDIA_EVERY = 1.0  # s
AHEAD = 50  # pieces of sound that wait for the session, each of at most 0.1 s
PIECE = RATE // 10
MOST_TEXTS = 1000  # that wait for the session
LAST_SOUND_S = 0.25  # after `end`, for packets that it has overtaken
FLUSH_S = 1.0  # that the last words may take


class RtcTransport:
    """Of one session. `start` is what the peer asked for; `ready` is done when it is let in, or fails as the session does."""

    def __init__(self, start: dict[str, Any], metrics: Metrics) -> None:
        self._start = json.dumps({"type": "start", **start})
        self._texts = 0
        self._inbox: asyncio.Queue[str | bytes | ClientError | None] = asyncio.Queue()
        self._ahead = asyncio.Semaphore(AHEAD)
        self._begun = self._gone = False
        self._ending: list[str] = []
        self._done: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._incoming: Incoming | None = None
        self._report = Report(metrics)
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.outgoing: Outgoing | None = None
        self.channel: Channel | None = None

    # The session's side

    async def receive(self) -> str | bytes | None:
        if not self._begun:
            self._begun = True
            return self._start
        if self._gone:
            return None
        message = await self._inbox.get()
        if isinstance(message, ClientError):
            raise message
        if isinstance(message, bytes):
            self._ahead.release()
        elif message is not None:
            self._texts -= 1
        return message

    async def send(self, message: str | bytes) -> None:
        """Raises Gone when the peer left."""
        if self._gone:
            raise Gone
        if isinstance(message, bytes):
            if self.outgoing is not None:
                start, pcm = binary.unpack(message)
                self.outgoing.write(start, pcm.transpose(0, 2, 1))
            return
        body = json.loads(message)
        if body["type"] == "done":
            self._done = message
        elif not self.ready.done():
            self._answer(body)
        elif self.channel is not None:
            await self.channel.send(message)

    def expect(self, bytes_per_s: float) -> None:
        """RTP holds nothing back."""

    def _answer(self, body: dict[str, Any]) -> None:
        if body["type"] == "ready":
            self.ready.set_result(body)
        elif body["type"] == "error" and body["fatal"]:
            error = ClientError(body["code"], body["message"], retry_after_ms=body.get("retry_after_ms"))
            self.ready.set_exception(error)
            self.ready.exception()  # whoever asked may be gone

    # The peer's side

    def talk(self) -> Channel:
        """Before the peer is answered, if it is to have a data channel."""
        self.channel = Channel(self._hear)
        return self.channel

    def play(self, names: Sequence[str], channels: int, coding: Coding) -> list[MediaStreamTrack]:
        """A track an output."""
        self.outgoing = Outgoing(names, channels, coding)
        return [self._report.watch(self.outgoing.listen(name)) for name in names]

    async def tell(self, tracks: list[dict[str, str]], senders: Sequence[RTCRtpSender]) -> None:
        """The peer is answered: the channel begins with `ready`, and with which track is what. `senders`: of those tracks."""
        self._report.sends(senders, [track["mid"] for track in tracks])
        if self.channel is not None:
            await self.channel.send(json.dumps(self.ready.result() | {"tracks": tracks}))
        self._tasks.append(asyncio.create_task(self._tell_media()))

    def listen(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._tasks.append(asyncio.create_task(self._pump(incoming)))

    def gone(self) -> None:
        """The peer left, or must go."""
        if not self._gone:
            self._gone = True
            self._inbox.put_nowait(None)

    def end(self) -> None:
        """As if the peer had said `end`: what has been heard is drained."""
        if self._incoming is not None:
            self._ending = self._ending or [wire.encode(wire.End())]
            self._incoming.end()

    def _hear(self, message: str | bytes) -> None:
        """What comes over the data channel. More than can be read is the end: it cannot be left unread."""
        self._texts += 1
        if isinstance(message, bytes):
            self._inbox.put_nowait(
                ClientError("bad_message", "got bytes over the data channel, expected text: sound comes by RTP")
            )
        elif self._texts > MOST_TEXTS:
            self._inbox.put_nowait(ClientError("too_many", f"got over {MOST_TEXTS} messages before they could be read"))
        elif self._ending:
            self._ending.append(message)
        elif _is_end(message) and self._incoming is not None:
            self._ending.append(message)
            asyncio.get_running_loop().call_later(LAST_SOUND_S, self._incoming.end)
        else:
            self._inbox.put_nowait(message)

    async def _pump(self, incoming: Incoming) -> None:
        try:
            await self._take(incoming)
        except Exception:
            log.exception("the sound of a peer could not be taken")
            self._inbox.put_nowait(ClientError("internal", "the server failed; nothing is wrong with what was sent"))

    async def _take(self, incoming: Incoming) -> None:
        while (pcm := await incoming.pcm()) is not None:
            for at in range(0, pcm.shape[1], PIECE):
                await self._ahead.acquire()
                self._inbox.put_nowait(np.ascontiguousarray(pcm[:, at : at + PIECE].T, "<f4").tobytes())
        last: list[str | None] = [*self._ending] or [None]
        for text in last:
            self._inbox.put_nowait(text)

    async def _tell_media(self) -> None:
        while True:
            await asyncio.sleep(MEDIA_EVERY)
            told = self._media()
            if self.channel is not None:
                await self.channel.send(json.dumps(told))

    def _media(self) -> dict[str, Any]:
        return self._report.told(self._incoming, self.outgoing)

    # The end

    async def hang_up(self, left: asyncio.Event, seconds: float) -> None:
        """The session is over: let what is still to be heard be heard, for at most `seconds` and while the peer is there, and say
        the last words."""
        if self._done is not None and not left.is_set():
            if self.outgoing is not None:
                await first_of(self.outgoing.finish(), left.wait(), seconds=seconds)
            if self.channel is not None and not left.is_set():
                await self.channel.send(json.dumps(self._media()))
                await self.channel.send(self._done)
                await first_of(left.wait(), seconds=FLUSH_S)
        elif self.channel is not None and not left.is_set():
            await first_of(self.channel.flushed(), left.wait(), seconds=FLUSH_S)

    async def close(self) -> None:
        self.gone()
        self._media()
        if self._incoming is not None:
            self._incoming.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.outgoing is not None:
            self.outgoing.close()
        if self.channel is not None:
            self.channel.close()


def _is_end(text: str) -> bool:
    try:
        return isinstance(wire.decode(text), wire.End)
    except ClientError:
        return False
