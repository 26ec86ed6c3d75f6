"""What Rivulet does, in async generators: PCM in, separated chunks out, on one timeline.

The end of the iterator is the flush: each stage drains what it holds and then ends, so the tail of every stage passes
through all later ones. Nothing here knows sockets, threads or clocks; the model is behind `infer`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streaming import cut, join, resample
from streaming.framing import Array, Framing
from streaming.join import Chunk
from streaming.resample import Ratio

Infer = Callable[[Array, Any], Awaitable[tuple[Array, Any]]]
"""`await infer(pcm [C, window], state) -> (stems [S, C, window], state)`: one window of one session."""


@dataclass(frozen=True)
class Plan:
    """A stream of `channels` at `rate` Hz through a model at `model_rate` Hz, cut as `framing` says."""

    rate: int
    channels: int
    model_rate: int
    framing: Framing

    @property
    def latency(self) -> int:
        """`heard - told` is always below this many samples at `rate`.

        With h heard, the way in has told at least `(h - half_in) * model_rate / rate` samples to the model, which has
        told all but `framing.latency - 1` of them to the way out, which keeps `half_out` of those:
        `h - told <= half_in + (framing.latency - 1 + half_out) * rate / model_rate`.
        """
        into, back = Ratio(self.rate, self.model_rate), Ratio(self.model_rate, self.rate)
        return into.half + back.length(self.framing.latency - 1 + back.half) + 1


async def stream(pcm: AsyncIterable[Array], plan: Plan, infer: Infer, state: Any) -> AsyncIterator[Chunk]:
    """Separate a live stream. Yields chunks that follow one another from 0; as many samples out as came in.

    Shape:
        pcm: `[channels, T]` float32 at `plan.rate`, any T.
        yields: `[S, channels, T']` at `plan.rate`.
    """
    if plan.rate == plan.model_rate:
        async for chunk in separate(pcm, plan.framing, plan.channels, infer, state):
            yield chunk
        return
    heard = 0

    async def counted() -> AsyncIterator[Array]:
        nonlocal heard
        async for part in pcm:
            heard += part.shape[-1]
            yield part

    inward = resampled(counted(), Ratio(plan.rate, plan.model_rate), plan.channels)
    chunks = separate(inward, plan.framing, plan.channels, infer, state)
    told = 0
    async for chunk in resampled_chunks(chunks, Ratio(plan.model_rate, plan.rate)):
        # Both conversions round up, so the way back may end a few samples after the timeline does.
        stems = chunk.stems[..., : max(heard - told, 0)]
        told += stems.shape[-1]
        if stems.shape[-1]:
            yield Chunk(chunk.start, stems)


async def separate(
    pcm: AsyncIterable[Array], framing: Framing, channels: int, infer: Infer, state: Any
) -> AsyncIterator[Chunk]:
    """Cut, infer, join; all at the model's rate. One window of a session is with the model at a time."""
    heard, told = cut.CutState(channels), join.JoinState()
    async for part in pcm:
        heard, windows = cut.push(framing, heard, part)
        for window in windows:
            stems, state = await infer(window.pcm, state)
            told, chunk = join.accept(framing, told, window, stems)
            if chunk.stems.shape[-1]:
                yield chunk
    for window in cut.finish(framing, heard):
        stems, state = await infer(window.pcm, state)
        told, chunk = join.accept(framing, told, window, stems)
        if chunk.stems.shape[-1]:
            yield chunk


async def resampled(pcm: AsyncIterable[Array], ratio: Ratio, channels: int) -> AsyncIterator[Array]:
    """The same signal at another rate, `[C, T]` to `[C, T']`."""
    state = resample.start(ratio, channels)
    async for part in pcm:
        state, out = resample.push(ratio, state, part)
        if out.shape[1]:
            yield out
    tail = resample.finish(ratio, state)
    if tail.shape[1]:
        yield tail


async def resampled_chunks(chunks: AsyncIterable[Chunk], ratio: Ratio) -> AsyncIterator[Chunk]:
    """Chunks at another rate: all stems and channels are rows of one conversion, so they stay aligned."""
    state, told, shape = None, 0, (0, 0)
    async for chunk in chunks:
        shape = chunk.stems.shape[:2]
        state = state or resample.start(ratio, shape[0] * shape[1])
        state, out = resample.push(ratio, state, chunk.stems.reshape(shape[0] * shape[1], -1))
        if out.shape[1]:
            yield Chunk(told, out.reshape(*shape, -1))
            told += out.shape[1]
    tail = resample.finish(ratio, state) if state else None
    if tail is not None and tail.shape[1]:
        yield Chunk(told, tail.reshape(*shape, -1))
