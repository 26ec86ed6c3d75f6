"""Who is above: probabilities of frames to who speaks in them, one after another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.framing import Array

Flags = NDArray[np.bool_]


def hysteresis(onset: float, offset: float, before: Flags, probs: Array) -> Flags:
    """From above `onset` on as long as not below `offset`. NaN is below.

    Shape:
        before: `[S]`, as it stood.
        probs: `[F, S]`, F > 0.
        returns: `[F, S]`.
    """
    up, stays = probs > onset, probs >= offset
    decides = np.where(up | ~stays, np.arange(len(probs))[:, None], -1)
    last = np.maximum.accumulate(decides, axis=0)  # the frame that decided; -1: before the first
    return np.where(last < 0, before, np.take_along_axis(up, np.maximum(last, 0), axis=0))


def floor(clearly: float, before: Flags, on: Flags, probs: Array) -> Flags:
    """Of those who are `on`, `[F, S]`, one in each frame: the most probable, but who has the floor keeps it while on unless
    another is more probable by more than `clearly`. `before` `[S]`: who had it."""
    one = np.zeros_like(on)
    who = int(before.argmax()) if before.any() else None
    for row in np.flatnonzero(on.any(1)):
        if row == 0 or not on[row - 1].any():
            who = who if row == 0 else None  # after a silence nobody has it
        value = np.where(on[row], probs[row], -1)
        if who is None or not on[row, who] or value.max() > value[who] + clearly:
            who = int(value.argmax())
        one[row, who] = True
    return one


def changes(before: Flags, speaking: Flags) -> list[tuple[int, int, bool]]:
    """(frame, speaker, whether one begins or falls silent), in order; within a frame, silence comes first."""
    above = np.concatenate((before[None], speaking))
    where = np.argwhere(above[1:] != above[:-1]).tolist()
    return sorted(((row, who, bool(speaking[row, who])) for row, who in where), key=lambda at: (at[0], at[2], at[1]))
