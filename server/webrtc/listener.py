"""One who listens to somebody's session, over a peer connection of his own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from aiortc import MediaStreamTrack
from structlog.contextvars import bound_contextvars

from server.auth import Identity
from server.webrtc.answer import fmtp
from server.webrtc.answering import Answered
from server.webrtc.call import Line, tag
from server.webrtc.offer import Offer
from server.webrtc.opus import RATE, Coding
from server.webrtc.peer import Peer
from server.webrtc.peers import Guest
from server.webrtc.send import Outgoing
from server.webrtc.waiting import first_of


class Listener:
    """`source` gives the session's sound while it is open; `names` are the outputs that are wanted, an m-line each."""

    def __init__(
        self, line: Line, identity: Identity, offer: Offer, local: bool, source: AbstractContextManager[Outgoing],
        names: Sequence[str], channels: int, coding: Coding,
    ) -> None:  # fmt: skip
        self._line, self._identity, self._offer, self._source = line, identity, offer, source
        self._names, self._opus, self._frame = names, fmtp(channels, coding.bitrate), coding.frame
        self._connected, self._left, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._peer = Peer(line.ice, offer, local, self._changed)
        self.answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

    async def live(self) -> None:
        """From the offer to the end."""
        try:
            with self._line.peers.counted("whep"):
                await self._listen()
        finally:
            await self._peer.close()
            self._over.set()

    async def _listen(self) -> None:
        peers = self._line.peers
        with ExitStack() as waiting, self._source as outgoing:
            waiting.enter_context(peers.unconnected())
            tracks = [outgoing.listen(name) for name in self._names]
            try:
                answered = await self._answer(tracks)
                with peers.known(answered.guest), bound_contextvars(listener=answered.guest.id):
                    self.answered.set_result(answered)
                    if await self._connects():
                        waiting.close()
                        with peers.tracks(len(tracks)):
                            await self._left.wait()
            finally:
                for track in tracks:
                    track.stop()

    async def _answer(self, tracks: Sequence[MediaStreamTrack]) -> Answered:
        for track in tracks:
            track.add_listener("ended", self._left.set)
        await self._peer.take(tracks, hears=False)
        text = await self._peer.answer(self._opus, 1000 * self._frame // RATE, self._names)
        told = [{"mid": one.mid, "name": name} for one, name in zip(self._offer.audio, self._names, strict=False)]
        name, owner = secrets.token_hex(8), self._identity.name
        guest = Guest(name, "whep", owner, self._peer, self._offer.ufrag, tag(), self._hang_up)
        return Answered(guest, text, told)

    async def _connects(self) -> bool:
        await first_of(self._connected.wait(), self._left.wait(), seconds=self._line.house.settings.rtc_connect_s)
        return self._line.peers.came("whep", self._peer.setup_s, len(self._names))

    def _changed(self, state: str) -> None:
        (self._connected if state == "connected" else self._left).set()

    async def _hang_up(self) -> None:
        self._left.set()
        await self._over.wait()
