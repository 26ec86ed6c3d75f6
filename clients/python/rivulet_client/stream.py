"""One session: PCM up, events down, at the same time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypedDict

from numpy.typing import NDArray
from rivulet_client.codec import (
    FORMATS,
    MAX_MESSAGE,
    Array,
    Done,
    Error,
    Format,
    Mark,
    Ready,
    Start,
    Stats,
    Stems,
    decode,
    encode,
    pack,
    planar,
    unpack,
)
from rivulet_client.errors import CLOSE_CODES, ConnectionLost, ProtocolError, RivuletError, SessionError
from rivulet_client.handshake import close_code, hang_up, open_session
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

Event = Stems | Mark | Stats | Error | Done


class Wanted(TypedDict, total=False):
    """What `connect` takes beside the shape of the audio, for functions that pass it on."""

    model: str
    format: Format
    stems: Sequence[str] | None
    output: Literal["stems", "mix"] | None
    gains: Mapping[str, float] | None
    mono: bool | None
    latency_ms: float | None
    token: str | None
    timeout: float
    retries: int
    tls: ssl.SSLContext | None


class Options(Wanted, total=False):
    """The keyword arguments of `connect`."""

    rate: int
    channels: int


@asynccontextmanager
async def connect(
    url: str,
    *,
    model: str = "music",
    rate: int = 44_100,
    channels: int = 2,
    format: Format = "s16le",
    stems: Sequence[str] | None = None,
    output: Literal["stems", "mix"] | None = None,
    gains: Mapping[str, float] | None = None,
    mono: bool | None = None,
    latency_ms: float | None = None,
    token: str | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 (asyncio.timeout around the block would bound the session too)
    retries: int = 3,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Stream]:
    """A session, open while the block lasts. Leaving it without `end()` abandons what has not come back yet.

    Args:
        url: `ws://host:port`, `https://host/prefix`, or the whole address of the stream.
        rate: Hz of the PCM both ways; the server converts to and from the rate of its model.
        channels: 1 or 2, of the PCM that is sent. What comes back has `stream.ready.channels`.
        format: of the PCM on the wire; what is sent and what comes back is float32 either way.
        stems: the outputs that are wanted, all of them if None; `no_<stem>` is everything but that stem.
        output: `mix` for one output named `mix`, the sum of the sources by `gains`.
        mono: whether to average the channels of each output.
        latency_ms: the most latency that is wanted; refused with the smallest possible one.
        token: sent as `Authorization: Bearer`.
        timeout: s, for the opening and for the wait for `ready`, each. A server that has to load a model may need more.
        retries: further tries, with growing pauses, when nobody answers or the server is full. Only the opening is
            tried again: a connection that is lost in mid-stream raises `ConnectionLost`. A server keeps nothing of a
            lost session yet, so none can be resumed; `separate(..., reconnect=True)` begins a new one where it broke.

    Raises:
        Unreachable, Refused, ProtocolError: see `rivulet_client.errors`.
    """
    names = None if stems is None else tuple(stems)
    start = Start(model, rate, channels, format, names, output, gains, mono, latency_ms)
    socket, ready = await open_session(url, start, token=token, patience=timeout, retries=retries, tls=tls)
    stream = Stream(socket, ready, channels, format)
    try:
        yield stream
    finally:
        await stream.close()


class Stream:
    """A session that is ready. One task sends, another iterates over the events:

    **read while you write.** Stems are several times the input, nobody buffers them without bound, and a task that
    sends a long recording before it reads stops for ever after a minute or so of audio. `separate` does both at once.

    Attributes:
        ready: what the server promised.
        sent, received: samples of the timeline that went up, and whose stems have been read.
    """

    def __init__(self, socket: ClientConnection, ready: Ready, channels: int, format: Format) -> None:
        self.ready, self.sent, self.received = ready, 0, 0
        self._socket, self._channels, self._format = socket, channels, format
        self._ended = self._done = False
        # A tenth of a second: the reader gets its turn that often, and a mark does not wait behind more.
        self._most = max(1, min(ready.rate // 10, MAX_MESSAGE // (channels * FORMATS[format].itemsize)))

    async def send(self, pcm: NDArray[Any]) -> None:
        """Sends `[C, T]`, or `[T]` of a mono stream: floating point at full scale 1, or int16. Any length.

        Waits while the server is not ready for more.

        Raises:
            ValueError: another shape or type.
            SessionError, ConnectionLost: the session is over; iterating tells the same, in the server's words.
        """
        samples = planar(pcm, self._channels)
        for at in range(0, samples.shape[1], self._most):
            piece: Array = samples[:, at : at + self._most]
            self.sent += piece.shape[1]  # before the wait: its stems may be here before it ends
            await self._say(pack(piece, self._format))

    async def mark(self, id: str) -> None:
        """Asks for a `Mark` once all audio sent before it has come out."""
        await self._say(encode("mark", id=id))

    async def gains(self, gains: Mapping[str, float]) -> None:
        """New gains (0 to 4) of a session with `output="mix"`; sources that are not named keep theirs."""
        await self._say(encode("gains", gains=dict(gains)))

    async def end(self) -> None:
        """No more audio: the rest of the stems comes out, then `Done`, then the iteration ends."""
        await self._say(encode("end"))
        self._ended = True

    async def close(self) -> None:
        """Closes the connection at once. After `Done` that is what the server does too."""
        await hang_up(self._socket)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            SessionError: the server ended the session and said why.
            ConnectionLost: it ended without a word.
            ProtocolError: a gap in the timeline, a wrong count.
        """
        while not self._done:
            try:
                data = await self._socket.recv()
            except ConnectionClosed as closed:
                raise self._over(closed) from None
            event = await self._told(data) if isinstance(data, str) else self._stems(data)
            if event is not None:
                return event
        raise StopAsyncIteration

    async def _say(self, message: str | bytes) -> None:
        if self._ended:
            raise RuntimeError("the stream has ended; nothing goes up after end()")
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise self._over(closed) from None
        await asyncio.sleep(0)  # a send into free buffers does not wait, and the reader must not starve

    async def _told(self, text: str) -> Event | None:
        message = decode(text)
        if isinstance(message, Error) and message.fatal:
            raise SessionError(message.code, message.message, await close_code(self._socket))
        if isinstance(message, Ready):
            raise ProtocolError("got a second ready")
        if isinstance(message, Done):
            if not self._ended or not message.samples == self.sent == self.received:
                counts = f"{self.sent} samples sent and {self.received} received"
                raise ProtocolError(f"got done with {message.samples} samples, with {counts}, ended: {self._ended}")
            self._done = True
        return message

    def _stems(self, data: bytes) -> Stems:
        start, samples = unpack(data)
        count, channels, frames = samples.shape
        if (count, channels) != (len(self.ready.stems), self.ready.channels):
            expected = f"{len(self.ready.stems)} of {self.ready.channels}"
            raise ProtocolError(f"got {count} stems of {channels} channels, expected {expected}")
        if start != self.received:
            raise ProtocolError(f"got stems from sample {start}, expected {self.received}: the timeline is broken")
        if start + frames > self.sent:
            raise ProtocolError(f"got stems up to sample {start + frames}, but only {self.sent} were sent")
        self.received += frames
        return Stems(start, dict(zip(self.ready.stems, samples, strict=True)), frames)

    def _over(self, closed: ConnectionClosed) -> RivuletError:
        code = closed.rcvd.code if closed.rcvd else None
        if code in CLOSE_CODES:
            reason = closed.rcvd.reason if closed.rcvd else ""
            return SessionError(CLOSE_CODES[code], reason or f"the server closed with code {code}", code)
        return ConnectionLost(f"the connection ended before done ({closed})", self.sent, self.received)
