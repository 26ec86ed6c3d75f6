"""PCM to windows. Pure: `push` and `finish` take a state and give back the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streaming import buffer
from streaming.framing import Array, Framing


@dataclass(frozen=True)
class Window:
    """What a separator is given, and what its answer will mean.

    Attributes:
        start: timeline index of the first sample that this window settles.
        length: how many samples it settles; 0 while a model's delay fills, fewer than a hop at the end.
        skip: index in the window's output that belongs to `start`.
        pcm: `[C, window]`, zeros where the timeline has no audio.
    """

    start: int
    length: int
    skip: int
    pcm: Array


@dataclass(frozen=True)
class CutState:
    """`pieces` hold the timeline from `origin` up to `heard`; `index` is the next window."""

    channels: int
    pieces: buffer.Pieces = ()
    origin: int = 0
    heard: int = 0
    index: int = 0


def start(channels: int, window: int = 0, first: int = 0) -> CutState:
    """A stream whose first sample is sample `first` of the timeline and whose first window is number `window`."""
    return CutState(channels, (), first, first, window)


def push(framing: Framing, state: CutState, pcm: Array) -> tuple[CutState, list[Window]]:
    """Hear `pcm`, `[C, T]`; T may be 0. Returns the windows that are complete now, in order.

    Raises:
        ValueError: another number of channels than the stream began with.
    """
    if pcm.ndim != 2 or pcm.shape[0] != state.channels:
        raise ValueError(f"got pcm of shape {pcm.shape}, this stream has {state.channels} channels: [C, T]")
    if pcm.shape[1] == 0:
        return state, []
    state = replace(state, pieces=buffer.append(state.pieces, pcm), heard=state.heard + pcm.shape[1])
    complete = (state.heard - framing.support - framing.lookahead) // framing.hop + 1
    return _windows(framing, state, max(complete, state.index), total=None)


def finish(framing: Framing, state: CutState) -> list[Window]:
    """The windows that settle what is still open, zeros after the end. None for an empty stream."""
    if state.heard == 0:
        return []
    last = -(-(state.heard + framing.delay) // framing.hop)
    return _windows(framing, state, last, total=state.heard)[1]


def _windows(framing: Framing, state: CutState, until: int, total: int | None) -> tuple[CutState, list[Window]]:
    """Windows `state.index .. until - 1`, and the state without the samples that no later window hears."""
    if until <= state.index:
        return state, []
    audio = buffer.joined(state.pieces, state.channels)
    windows = [_window(framing, audio, state.origin, index, total) for index in range(state.index, until)]
    origin = max(state.origin, until * framing.hop - framing.context)
    rest = audio[:, origin - state.origin :]
    # A copy, so that a short rest does not keep a long recording alive.
    pieces = (rest.copy(),) if rest.shape[1] else ()
    return replace(state, pieces=pieces, origin=origin, index=until), windows


def _window(framing: Framing, audio: Array, origin: int, index: int, total: int | None) -> Window:
    first = index * framing.hop - framing.context
    pcm = np.zeros((audio.shape[0], framing.window), np.float32)
    have = audio[:, max(first - origin, 0) : max(first + framing.window - origin, 0)]
    at = max(origin - first, 0)
    pcm[:, at : at + have.shape[1]] = have
    told = index * framing.hop - framing.delay
    start = max(told, 0)
    end = max(told + framing.hop, 0)
    if total is not None:
        end = min(end, total)
    return Window(start, max(end - start, 0), framing.context + start - told, pcm)
