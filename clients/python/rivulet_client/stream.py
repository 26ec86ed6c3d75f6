"""One session: PCM up, events down, at the same time."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypedDict

from numpy.typing import NDArray
from rivulet_client.account import Event
from rivulet_client.codec import FORMATS, MAX_MESSAGE, Array, Done, Format, Ready, Start, Stats, Stems, pack, planar
from rivulet_client.credentials import Token
from rivulet_client.handshake import attempt, open_session
from rivulet_client.journal import Journal
from rivulet_client.line import Line
from rivulet_client.redial import Redial
from rivulet_client.turns import Mode, SpeakerOptions, Speakers


class Wanted(TypedDict, total=False):
    """What `connect` takes beside the shape of the audio, for functions that pass it on."""

    model: str
    format: Format
    stems: Sequence[str] | None
    output: Literal["stems", "mix"] | None
    gains: Mapping[str, float] | None
    mono: bool | None
    latency_ms: float | None
    live: bool
    mode: Mode | None
    speakers: SpeakerOptions | None
    token: Token | None
    timeout: float
    retries: int
    resume_s: float
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
    live: bool = True,
    mode: Mode | None = None,
    speakers: SpeakerOptions | None = None,
    token: Token | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 (asyncio.timeout around the block would bound the session too)
    retries: int = 3,
    resume_s: float = 30.0,
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
        live: whether the audio comes by the clock. False for a file: as fast as the server has time to spare, with no
            promise. A live session is not read while it is more than 10 s (the server's setting) ahead of the clock.
        mode: `speakers` for one output a person, whoever speaks when, and `Speakers` events beside it; `diarize` for the
            events alone. Only models that say so in `/v1/models` have these.
        speakers: with these modes, what is asked of them. Options that are left out are the server's.
        token: sent as `Authorization: Bearer`; a function (also `async`) is called for a fresh one at every connection.
        timeout: s, for the opening and for the wait for `ready`, each. A server that has to load a model may need more.
        retries: further tries of the opening, with growing pauses, and not before the server's `retry_after_ms`, when
            nobody answers or the server is full or draining.
        resume_s: how long to try to go on with the session after a lost connection, in s; 0 for not at all. What comes
            out stays whole, see `Stream`. When it fails, that is a `ConnectionLost`.

    Raises:
        Unreachable, Refused, ProtocolError: see `rivulet_client.errors`.
    """
    names = None if stems is None else tuple(stems)
    start = Start(
        model, rate, channels, format, names, output, gains, mono, latency_ms, None if live else False, mode, speakers
    )
    socket, ready = await open_session(url, start, token=token, patience=timeout, retries=retries, tls=tls)
    redial = Redial(lambda resume: attempt(url, resume, token, timeout, tls), resume_s)
    stream = Stream(Line(socket, ready, redial), ready, channels, format)
    try:
        yield stream
    finally:
        await stream.close()


class Stream:
    """A session that is ready. One task sends, another iterates over the events:

    **read while you write.** Stems are several times the input, nobody buffers them without bound, and a task that
    sends a long recording before it reads stops for ever after a minute or so of audio. `separate` does both at once.

    A lost connection is made good for `resume_s` seconds: `send` waits meanwhile, and what comes out has no gap and no
    repeat. For that the stream keeps the PCM that it sent, as bytes, from `ready.resume_samples` before the first sample
    that has not come back; it never takes more than is under way, and a tenth of a second for each call that waits.

    Attributes:
        ready: what the server promised.
        sent, received: samples of the timeline that went up, and whose stems have been read; without stems, up to which
            events have been read.
    """

    def __init__(self, line: Line, ready: Ready, channels: int, format: Format) -> None:
        self.ready, self.received = ready, 0
        self._line, self._channels, self._format = line, channels, format
        # A tenth of a second: the reader gets its turn that often, and a mark does not wait behind more.
        self._most = max(1, min(ready.rate // 10, MAX_MESSAGE // (channels * FORMATS[format].itemsize)))

    @property
    def sent(self) -> int:
        return self._line.journal.sent

    @property
    def resumes(self) -> int:
        """How often a lost connection was made good."""
        return self._line.resumes

    async def send(self, pcm: NDArray[Any]) -> None:
        """Sends `[C, T]`, or `[T]` of a mono stream: floating point at full scale 1, or int16. Any length.

        Waits while the server is not ready for more, or while there is no connection.

        Raises:
            ValueError: another shape or type.
            SessionError, ConnectionLost: the session is over; iterating tells the same, in the server's words.
        """
        samples = planar(pcm, self._channels)
        for at in range(0, samples.shape[1], self._most):
            piece: Array = samples[:, at : at + self._most]
            await self._line.say(self._journal().audio(pack(piece, self._format), piece.shape[1]))

    async def mark(self, id: str) -> None:
        """Asks for a `Mark` once all audio sent before it has come out."""
        await self._line.say(self._journal().mark(id))

    async def gains(self, gains: Mapping[str, float]) -> None:
        """New gains (0 to 4) of a session with `output="mix"`; sources that are not named keep theirs."""
        await self._line.say(self._journal().gains(gains))

    async def end(self) -> None:
        """No more audio: the rest of the stems comes out, then `Done`, then the iteration ends."""
        await self._line.say(self._journal().end())

    async def close(self) -> None:
        """Closes the connection at once. After `Done` that is what the server does too."""
        await self._line.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            SessionError: the server ended the session and said why.
            ConnectionLost: the connection ended, and the session could not be resumed.
            ProtocolError: a gap in the timeline, a wrong count.
        """
        event = await self._line.event()
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, Stems):
            self.received += event.frames
        elif not self.ready.stems and isinstance(event, Stats | Speakers | Done):
            told = event.samples if isinstance(event, Done) else event.told
            self.received = min(max(self.received, told), self.sent)
        return event

    def _journal(self) -> Journal:
        if self._line.journal.ended:
            raise RuntimeError("the stream has ended; nothing goes up after end()")
        self._line.check()
        return self._line.journal
