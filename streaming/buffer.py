"""An append-only run of samples kept as a value: O(log n) pieces, each sample copied O(log n) times however it came.

A window of 7.8 s is filled by pushes of 20 ms, or of one sample. Joining on every push would copy the whole buffer each
time; keeping every push would grow a list without bound. So neighbours are merged when the later one is as long as
the earlier, as in a binary counter.
"""

from __future__ import annotations

import numpy as np

from streaming.framing import Array

Pieces = tuple[Array, ...]


def append(pieces: Pieces, pcm: Array) -> Pieces:
    """`pieces` followed by `pcm`, `[C, T]`, T >= 1. The arrays are kept, not copied: the caller must not write to them."""
    merged = list(pieces)
    while merged and merged[-1].shape[1] <= pcm.shape[1]:
        pcm = np.concatenate((merged.pop(), pcm), axis=1)
    return (*merged, pcm)


def joined(pieces: Pieces, channels: int) -> Array:
    """All of it as one array `[C, T]`."""
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate((np.zeros((channels, 0), np.float32), *pieces), axis=1)
