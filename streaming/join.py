"""Separated windows to stems on the timeline: a running weighted average. Pure, as `cut`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming.cut import Window
from streaming.framing import Array, Framing


@dataclass(frozen=True)
class Chunk:
    """Final samples `start .. start + T - 1` of all stems, `[S, C, T]`. One message: stems cannot drift apart."""

    start: int
    stems: Array


@dataclass(frozen=True)
class JoinState:
    """`total` `[S, C, N]` and `weight` `[N]`: what earlier windows have said of the samples from `told` on."""

    told: int = 0
    total: Array | None = None
    weight: Array | None = None


def start(framing: Framing, window: int = 0) -> JoinState:
    """A timeline whose first window is number `window`."""
    return JoinState(max(window * framing.hop - framing.delay, 0))


def accept(framing: Framing, state: JoinState, window: Window, stems: Array) -> tuple[JoinState, Chunk]:
    """Take what a separator said of `window`, `[S, C, window]`. Chunks follow one another without gap or repeat.

    Every sample is the average of what each window that told it said, weighted by the cross-fade. Dividing by the sum
    of the weights that really came (instead of requiring them to add up to one) is what makes the two ends of a
    stream right (as in demucs `apply.py`, the running `sum_weight`).

    Raises:
        ValueError: a window out of order, or stems of another length than the window.
    """
    if window.start != state.told:
        raise ValueError(f"got a window that starts at {window.start}, the timeline stands at {state.told}")
    if stems.shape[-1] != framing.window:
        raise ValueError(f"got stems of {stems.shape[-1]} samples, the window has {framing.window}")
    if framing.fade == 0:  # nothing of a window outlives it
        return JoinState(window.start + window.length), Chunk(
            window.start, stems[..., window.skip : window.skip + window.length]
        )
    support = slice(window.skip, framing.context + framing.support)
    weight = framing.weights()[window.skip - framing.context :]
    total = _add(state.total, stems[..., support] * weight)
    weight = _add(state.weight, weight)
    out = total[..., : window.length] / weight[: window.length]
    rest = JoinState(window.start + window.length, total[..., window.length :], weight[window.length :])
    return rest, Chunk(window.start, out)


def _add(old: Array | None, new: Array) -> Array:
    """`old + new` where `old` ends sooner. A new array: states are values."""
    if old is None or old.shape[-1] == 0:
        return np.array(new, np.float32)
    out = np.array(new, np.float32)
    out[..., : old.shape[-1]] += old
    return out
