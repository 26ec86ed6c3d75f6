"""What Rivulet does, in async generators: PCM in, separated chunks out, on one timeline.

The end of the iterator is the flush: each stage drains what it holds and then ends, so the tail of every stage passes
through all later ones. Nothing here knows sockets, threads or clocks; the model is behind `infer`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from streaming import cut, join, resample
from streaming.cut import CutState, Window
from streaming.entry import BEGINNING, Entry
from streaming.framing import Array, Framing
from streaming.join import Chunk
from streaming.plan import Plan
from streaming.resample import Ratio

Infer = Callable[[Array, Any], Awaitable[tuple[Array, Any]]]
"""`await infer(pcm [C, window], state) -> (stems [S, C, window], state)`: one window of one session."""

T = TypeVar("T")
TAPS = 10  # what a sample costs to convert, in samples that are only moved


class Aside(Protocol):
    """Where arithmetic is done: `work` on so many values, here or on another thread."""

    async def __call__(self, values: int, work: Callable[[], T]) -> T: ...


async def here(values: int, work: Callable[[], T]) -> T:
    """At once."""
    return work()


async def stream(
    pcm: AsyncIterable[Array], plan: Plan, infer: Infer, state: Any, at: Entry = BEGINNING, aside: Aside = here
) -> AsyncIterator[Chunk]:
    """Separate a live stream. Yields chunks that follow one another from `at.told`; as many samples out as came in.

    Args:
        at: where on the timeline to begin; `state` is fresh in any case.
        aside: where the arithmetic of long windows is done.

    Shape:
        pcm: `[channels, T]` float32 at `plan.rate`, any T; the first sample is sample `at.replay` of the timeline.
        yields: `[S, channels, T']` at `plan.rate`.
    """
    async for chunk in _stream(pcm, plan, infer, state, at, aside):
        known = max(at.told - chunk.start, 0)  # told before the stream was cut off
        if known < chunk.stems.shape[-1]:
            yield Chunk(chunk.start + known, chunk.stems[..., known:]) if known else chunk


async def _stream(
    pcm: AsyncIterable[Array], plan: Plan, infer: Infer, state: Any, at: Entry, aside: Aside
) -> AsyncIterator[Chunk]:
    """As `stream`, but it may begin before `at.told`: with all that the first window tells."""
    if plan.rate == plan.model_rate:
        async for chunk in separate(pcm, plan.framing, plan.channels, infer, state, at, aside):
            yield chunk
        return
    heard = at.replay

    async def counted() -> AsyncIterator[Array]:
        nonlocal heard
        async for part in pcm:
            heard += part.shape[-1]
            yield part

    inward = resampled(counted(), Ratio(plan.rate, plan.model_rate), plan.channels, at.replay, at.first, aside)
    chunks = separate(inward, plan.framing, plan.channels, infer, state, at, aside)
    told = at.told
    async for chunk in resampled_chunks(chunks, Ratio(plan.model_rate, plan.rate), at.told, aside):
        # Both conversions round up, so the way back may end a few samples after the timeline does.
        stems = chunk.stems[..., : max(heard - told, 0)]
        told += stems.shape[-1]
        if stems.shape[-1]:
            yield Chunk(chunk.start, stems)


async def separate(
    pcm: AsyncIterable[Array],
    framing: Framing,
    channels: int,
    infer: Infer,
    state: Any,
    at: Entry = BEGINNING,
    aside: Aside = here,
) -> AsyncIterator[Chunk]:
    """Cut, infer, join; all at the model's rate. One window of a session is with the model at a time."""
    told = join.start(framing, at.window)
    async for window in windows(pcm, framing, cut.start(channels, at.window, at.first)):
        stems, state = await infer(window.pcm, state)
        told, chunk = await aside(stems.size, partial(join.accept, framing, told, window, stems))
        if chunk.stems.shape[-1]:
            yield chunk


async def windows(pcm: AsyncIterable[Array], framing: Framing, state: CutState) -> AsyncIterator[Window]:
    """Everything that a model is given of a stream."""
    async for part in pcm:
        state, complete = cut.push(framing, state, part)
        for window in complete:
            yield window
    for window in cut.finish(framing, state):
        yield window


async def resampled(
    pcm: AsyncIterable[Array], ratio: Ratio, channels: int, heard: int = 0, told: int = 0, aside: Aside = here
) -> AsyncIterator[Array]:
    """The same signal at another rate, `[C, T]` from sample `heard` on to `[C, T']` from sample `told` on."""
    state = resample.start(ratio, channels, heard, told)
    async for part in pcm:
        state, out = await aside(part.size * TAPS, partial(resample.push, ratio, state, part))
        if out.shape[1]:
            yield out
    tail = resample.finish(ratio, state)
    if tail.shape[1]:
        yield tail


async def resampled_chunks(
    chunks: AsyncIterable[Chunk], ratio: Ratio, told: int = 0, aside: Aside = here
) -> AsyncIterator[Chunk]:
    """Chunks at another rate, from sample `told` on: all stems and channels are rows of one conversion, so they stay aligned."""
    state, shape = None, (0, 0)
    async for chunk in chunks:
        shape = chunk.stems.shape[:2]
        rows = chunk.stems.reshape(shape[0] * shape[1], chunk.stems.shape[2])
        state = state or resample.start(ratio, len(rows), chunk.start, told)
        state, out = await aside(rows.size * TAPS, partial(resample.push, ratio, state, rows))
        if out.shape[1]:
            yield Chunk(told, out.reshape(*shape, out.shape[1]))
            told += out.shape[1]
    tail = resample.finish(ratio, state) if state else None
    if tail is not None and tail.shape[1]:
        yield Chunk(told, tail.reshape(*shape, tail.shape[1]))
