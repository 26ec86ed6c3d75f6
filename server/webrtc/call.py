"""A session that a peer holds, from the offer until the last packet has left: `/v1/rtc` and WHIP are two ways to ask for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from structlog.contextvars import bound_contextvars

from server.auth import Identity
from server.house import House
from server.serve import serve
from server.webrtc.answer import fmtp
from server.webrtc.answering import Answered, carried
from server.webrtc.ice import Ice
from server.webrtc.offer import Offer
from server.webrtc.opus import MUSIC, SPEECH, Coding
from server.webrtc.peer import Peer
from server.webrtc.peers import Guest, Kind, Peers
from server.webrtc.receive import Incoming
from server.webrtc.sections import bad
from server.webrtc.transport import RATE, RtcTransport
from server.webrtc.waiting import first_of

PLAYOUT_S = 60.0  # that what was separated may take to be heard, after the session's end
OURS = ("rate", "channels", "format", "live")  # fields of `start` that are not the peer's to say
VOICE = 16_000  # Hz; a model of at most this rate hears speech


@dataclass(frozen=True)
class Line:
    """Where calls come in, and what they share."""

    house: House
    peers: Peers
    ice: Ice


async def call(
    line: Line, identity: Identity, offer: Offer, start: dict[str, Any], kind: Kind, local: bool, name: str = ""
) -> Answered:
    """Begin a session for this offer, and answer; it goes on by itself. With `rtc` every output has a track, and there is a data
    channel; `whip` only brings sound. `name`: by which the session is known too.

    Raises:
        ClientError: everything that may be said at the door.
    """
    one = _Call(line, identity, offer, start, kind, local, name)
    line.peers.run(carried(one.live(), one.answered))
    return await asyncio.shield(one.answered)


def begin(line: Line, asked: dict[str, Any], stereo: bool) -> dict[str, Any]:
    """The whole `start` of a session by RTP: what was asked for, at 48 kHz, in as many channels as both peer and model have.

    Raises:
        ClientError: `bad_message`, `unknown_model`.
    """
    if given := [name for name in OURS if name in asked]:
        raise bad(f"got {given[0]} in start, which over WebRTC is negotiated")
    if not isinstance(model := asked.get("model"), str):
        raise bad(f"got model {str(model)[:40]!r} in start, expected a name")
    channels = 2 if stereo and line.house.shelf.entry(model).channels == 2 else 1
    return asked | {"rate": RATE, "channels": channels, "format": "f32le"}


def coding(line: Line, model: str, mode: str, channels: int) -> Coding:
    """Speech for a model of speech, else music: with half the bits for one channel."""
    if mode != "separate" or line.house.shelf.entry(model).rate <= VOICE:
        return SPEECH
    return MUSIC if channels == 2 else replace(MUSIC, bitrate=MUSIC.bitrate // 2)


def tag() -> str:
    """An ETag, of an ICE session."""
    return f'"{secrets.token_urlsafe(9)}"'


class _Call:
    def __init__(
        self, line: Line, identity: Identity, offer: Offer, start: dict[str, Any], kind: Kind, local: bool, name: str
    ) -> None:
        self._line, self._identity, self._offer, self._kind, self._local = line, identity, offer, kind, local
        self._name = name
        self._channels: int = start["channels"]
        self._transport = RtcTransport(start, line.house.metrics)
        self._connected, self._left = asyncio.Event(), asyncio.Event()
        self._over = asyncio.Event()
        self._peer: Peer | None = None
        self.answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

    async def live(self) -> None:
        """From the offer to the end."""
        with self._line.peers.counted(self._kind), self._line.house.drain.stay():
            await self._serve()

    async def _serve(self) -> None:
        serving = asyncio.create_task(serve(self._transport, self._line.house, self._identity))
        try:
            with ExitStack() as waiting:
                waiting.enter_context(self._line.peers.unconnected())
                answered = await self._answer(await self._transport.ready)
                known = self._line.peers.known(answered.guest, self._transport.outgoing, self._name)
                with known, bound_contextvars(session=answered.guest.id):
                    self.answered.set_result(answered)
                    if await self._connects():
                        waiting.close()
                        with self._line.peers.tracks(len(answered.tracks)):
                            await asyncio.wait({serving})
                            await self._transport.hang_up(self._left, PLAYOUT_S)
        finally:
            await self._end(serving)

    async def _answer(self, ready: dict[str, Any]) -> Answered:
        names: list[str] = ready["stems"] if self._kind == "rtc" else []
        _fits(self._offer, names)
        peer = self._peer = Peer(self._line.ice, self._offer, self._local, self._changed)
        transport = self._transport
        how = coding(self._line, ready["model"], ready["mode"], ready["channels"])
        if self._offer.data:
            peer.on_channel(transport.talk().take)
        receiver = await peer.take(transport.play(names, ready["channels"], how) if names else [], hears=True)
        assert receiver is not None
        transport.listen(Incoming(receiver, self._channels))
        wide = self._line.house.shelf.entry(ready["model"]).rate > VOICE
        text = await peer.answer(fmtp(self._channels, how.bitrate, wide), 1000 * how.frame // RATE, names)
        tracks = [{"mid": section.mid, "name": name} for section, name in zip(self._offer.audio, names, strict=False)]
        await transport.tell(tracks, peer.senders[: len(tracks)])
        guest = Guest(ready["session"], self._kind, self._identity.name, peer, self._offer.ufrag, tag(), self._hang_up)
        return Answered(guest, text, tracks)

    async def _connects(self) -> bool:
        """Whether the peer came in time."""
        assert self._peer is not None
        await first_of(self._connected.wait(), self._left.wait(), seconds=self._line.house.settings.rtc_connect_s)
        return self._line.peers.came(self._kind, self._peer.setup_s, len(self._offer.audio))

    def _changed(self, state: str) -> None:
        if state == "connected":
            self._connected.set()
        else:
            self._leave()

    def _leave(self) -> None:
        """Who only sends has ended when he goes: others may hear what is left. Who also hears was cut off."""
        self._left.set()
        if self._kind == "whip":
            self._transport.end()
        else:
            self._transport.gone()

    async def _hang_up(self) -> None:
        self._leave()
        if self._kind == "rtc":
            await self._over.wait()

    async def _end(self, serving: asyncio.Task[int]) -> None:
        self._leave()
        if self._line.house.drain.begun or not self.answered.done():
            serving.cancel()
        if self._peer is not None:
            await self._peer.close()
        await self._transport.close()
        (error,) = await asyncio.gather(serving, return_exceptions=True)
        self._over.set()
        if isinstance(error, Exception):
            raise error


def _fits(offer: Offer, names: Sequence[str]) -> None:
    """Raises ClientError: `bad_message`, for an offer that has no room for the sound, either way."""
    if not offer.audio[0].sends:
        raise bad(f"got a first audio m-line that is {offer.audio[0].direction}, expected one that sends the sound")
    taken = next((index for index, one in enumerate(offer.audio) if not one.takes), len(offer.audio))
    if taken < len(names):
        told = ", ".join(names)
        raise bad(f"got an offer with {taken} audio m-lines to play by, expected {len(names)}: one for each of {told}")
