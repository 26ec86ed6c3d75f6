"""The whole way in one call: audio in, stems out, sending and reading at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from rivulet_client.codec import Array, Error, Stems, planar
from rivulet_client.errors import ConnectionLost, RivuletError
from rivulet_client.joint import Joint
from rivulet_client.stream import Options, Stream, Wanted, connect
from rivulet_client.tape import Tape
from rivulet_client.timeline import Timeline
from rivulet_client.turns import Speakers

Chunks = Iterable[NDArray[Any]] | AsyncIterable[NDArray[Any]]
log = logging.getLogger("rivulet_client")


async def separate(
    url: str,
    chunks: Chunks,
    *,
    reconnect: bool = False,
    ahead: float = 5.0,
    timeline: Timeline | None = None,
    **options: Unpack[Options],
) -> AsyncGenerator[Stems, None]:
    """Sends `chunks` and yields their stems, contiguous from sample 0, exactly as many samples as went in.

    Args:
        chunks: PCM `[C, T]` (or `[T]` of a mono stream), each of any length, from an iterable that does not block or an
            async one. It is read in a task of its own, as fast as the server takes it; a live source paces itself.
        reconnect: what to do when a lost connection could not be resumed within `resume_s` (resuming itself needs no
            asking: it cannot be heard). True: begin a new session from the first sample that has not come back. The
            timeline stays whole; the model begins without its past, so the joint may be heard, and interchangeable
            sources (speakers) may come back in another order. Given up when a session brings nothing.
        ahead: s of audio, beyond the latency, that may be out and not back: the bound of everything that is buffered.
        timeline: with `mode` `speakers` or `diarize`: takes who speaks when, as it comes; ahead of the stems. In `diarize`
            there are no stems to be yielded, and the iteration ends when all is told.
        options: those of `connect`. Non-fatal errors of the server are logged.

    To stop early, close the iterator: `async with contextlib.aclosing(separate(...)) as stems`.

    Raises:
        Unreachable, Refused, SessionError, ConnectionLost, ProtocolError: see `rivulet_client.errors`.
        Exception: whatever `chunks` raised.
    """
    rate, channels = options.get("rate", 44_100), options.get("channels", 2)
    tape, witness = Tape(room=round(ahead * rate)), _Witness(timeline)
    recorder = asyncio.create_task(_record(chunks, tape, channels, max(1, rate // 10)))
    try:
        while True:
            base = tape.told
            try:
                async with connect(url, **options) as stream:
                    tape.room = stream.ready.latency_samples + round(ahead * rate)
                    async with aclosing(_session(stream, tape, base, witness)) as session:
                        async for stems in session:
                            yield stems
                return
            except ConnectionLost as lost:
                if tape.error is not None:
                    raise tape.error from None
                if not reconnect or tape.told == base:
                    raise ConnectionLost(lost.reason, base + lost.sent, base + lost.received) from None
                log.warning("%s; beginning again at sample %d", lost.message, tape.told)
                witness.joint.broken()
    finally:
        await _stop(recorder)


async def separate_array(url: str, pcm: NDArray[Any], rate: int, **options: Unpack[Wanted]) -> dict[str, Array]:
    """A whole recording, `[C, T]` or `[T]`, as stem name to `[C, T]` float32; empty for no samples.

    The channels are those of `pcm`; the format is f32le, and the session not `live`, unless `options` say otherwise. So it
    runs as fast as the server has time to spare. Raises what `separate` raises.
    """
    samples = pcm[np.newaxis] if pcm.ndim == 1 else pcm
    options.setdefault("format", "f32le")
    options.setdefault("live", False)
    stems: dict[str, Array] = {}
    async with aclosing(separate(url, [samples], rate=rate, channels=samples.shape[0], **options)) as chunks:
        async for chunk in chunks:
            for name, audio in chunk.stems.items():
                whole = stems.setdefault(name, np.zeros((audio.shape[0], samples.shape[1]), np.float32))
                whole[:, chunk.start : chunk.start + chunk.frames] = audio
    return stems


def separate_array_sync(url: str, pcm: NDArray[Any], rate: int, **options: Unpack[Wanted]) -> dict[str, Array]:
    """`separate_array` for code without an event loop."""
    return asyncio.run(separate_array(url, pcm, rate, **options))


class _Witness:
    """Puts who speaks on the timeline of the whole, over the sessions that it takes."""

    def __init__(self, timeline: Timeline | None) -> None:
        self.timeline, self.joint = timeline, Joint()

    def take(self, event: Speakers, base: int) -> None:
        turns = [replace(turn, start=base + turn.start, end=base + turn.end) for turn in event.turns]
        joined = self.joint.take(replace(event, told=base + event.told, turns=tuple(turns)))
        if self.timeline is not None and joined is not None:
            self.timeline.take(joined)


async def _session(stream: Stream, tape: Tape, base: int, witness: _Witness) -> AsyncGenerator[Stems, None]:
    """The stems of one session, whose sample 0 is sample `base` of the whole."""
    sender = asyncio.create_task(_send(stream, tape, base))
    try:
        async for event in stream:
            if isinstance(event, Speakers):
                witness.take(event, base)
            if isinstance(event, Stems) or not stream.ready.stems:
                await tape.forget(base + stream.received)
            if isinstance(event, Stems):
                yield Stems(base + event.start, event.stems, event.frames)
            elif isinstance(event, Error):
                log.warning("%s: %s", event.code, event.message)
    finally:
        await _stop(sender)


async def _send(stream: Stream, tape: Tape, position: int) -> None:
    try:
        while (pcm := await tape.take(position)) is not None:
            position += pcm.shape[1]
            await stream.send(pcm)
        await stream.end()
    except RivuletError:
        pass  # the reader meets the same end, with the server's last words before it
    except Exception:
        await stream.close()  # the source broke: wake the reader, which raises tape.error


async def _record(chunks: Chunks, tape: Tape, channels: int, most: int) -> None:
    """Reads the source onto the tape, in pieces of at most `most` samples, so that a long array needs no more room."""
    try:
        async for chunk in _each(chunks):
            samples = planar(chunk, channels)
            for at in range(0, samples.shape[1], most):
                await tape.put(samples[:, at : at + most])
    except Exception as error:
        await tape.end(error)
    else:
        await tape.end()


async def _each(chunks: Chunks) -> AsyncIterator[NDArray[Any]]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
        return
    for chunk in chunks:
        yield chunk


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
