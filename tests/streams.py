"""A model behind the pipeline without a server, and the ways to chop a signal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from models.separator import Separator
from streaming import pipeline
from streaming.entry import BEGINNING, Entry
from streaming.framing import Array, Framing
from streaming.join import Chunk
from streaming.plan import Plan


def chop(pcm: Array, sizes: Sequence[int]) -> list[Array]:
    """`[C, T]` in parts of these sizes, the last size repeated to the end."""
    parts, at = [], 0
    for size in sizes:
        parts.append(pcm[:, at : at + size])
        at += size
    while at < pcm.shape[1]:
        parts.append(pcm[:, at : at + max(sizes[-1], 1)])
        at += max(sizes[-1], 1)
    return parts


def run(
    separator: Separator,
    parts: Sequence[Array],
    rate: int | None = None,
    framing: Framing | None = None,
    at: Entry = BEGINNING,
) -> list[Chunk]:
    """Every chunk that the pipeline tells of these parts."""
    return [chunk for chunk, _ in run_watched(separator, parts, rate, framing, at)]


def run_watched(
    separator: Separator,
    parts: Sequence[Array],
    rate: int | None = None,
    framing: Framing | None = None,
    at: Entry = BEGINNING,
) -> list[tuple[Chunk, int]]:
    """As `run`, each chunk with how many samples had been heard when it was told."""
    spec = separator.spec
    plan = Plan(rate or spec.rate, spec.channels, spec.rate, framing or spec.framing)
    heard = 0

    async def pcm() -> AsyncIterator[Array]:
        nonlocal heard
        for part in parts:
            heard += part.shape[1]
            yield part

    async def infer(window: Array, state: Any) -> tuple[Array, Any]:
        stems, states = separator.run(window[None], [state])
        return stems[0], states[0]

    async def collect() -> list[tuple[Chunk, int]]:
        return [(chunk, heard) async for chunk in pipeline.stream(pcm(), plan, infer, separator.start(), at)]

    try:
        collect().send(None)  # nothing in it waits, so it needs no event loop, and runs inside another's
    except StopIteration as done:
        return list(done.value)
    raise AssertionError("the pipeline waited for something")


def stems(chunks: Sequence[Chunk], told: int = 0) -> Array:
    """The chunks as one array `[S, C, T]`, after checking that they follow one another from `told`."""
    for chunk in chunks:
        assert chunk.start == told
        assert chunk.stems.shape[-1] > 0
        told += chunk.stems.shape[-1]
    return np.concatenate([chunk.stems for chunk in chunks], axis=2)
