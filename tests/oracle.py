"""Whole-file oracles that share no code with `streaming`: one long array, plain loops, float64."""

from __future__ import annotations

import numpy as np

from models.separator import Separator
from streaming.framing import Array, Framing


def overlap_add(separator: Separator, framing: Framing, pcm: Array) -> Array:
    """Stems `[S, C, N]` of a whole recording `[C, N]` through a stateless model, by textbook overlap-add."""
    channels, total = pcm.shape
    support = framing.window - framing.context - framing.lookahead
    hops = -(-total // framing.hop)
    padded = np.zeros((channels, framing.context + hops * framing.hop + framing.window), np.float32)
    padded[:, framing.context : framing.context + total] = pcm
    fade = support - framing.hop
    shape = np.array([min(i + 1, support - i, fade + 1) for i in range(support)], np.float64)
    out = np.zeros((len(separator.spec.sources), channels, padded.shape[1]))
    norm = np.zeros(padded.shape[1])
    for index in range(hops):
        at = index * framing.hop
        stems, _ = separator.run(padded[None, :, at : at + framing.window], [separator.start()])
        out[:, :, at : at + support] += stems[0][:, :, framing.context : framing.context + support] * shape
        norm[at : at + support] += shape
    return np.asarray(out[:, :, :total] / norm[:total], np.float32)


def in_one_run(separator: Separator, framing: Framing, pcm: Array) -> Array:
    """Stems `[S, C, N]` of a whole recording through a stateful model in a single call."""
    channels, total = pcm.shape
    hops = -(-(total + framing.delay) // framing.hop)
    padded = np.zeros((1, channels, hops * framing.hop), np.float32)
    padded[0, :, :total] = pcm
    stems, _ = separator.run(padded, [separator.start()])
    return np.asarray(stems[0][:, :, framing.delay : framing.delay + total])


def whole(separator: Separator, framing: Framing, pcm: Array) -> Array:
    """Whichever of the two applies."""
    stateless = separator.start() is None
    return (overlap_add if stateless else in_one_run)(separator, framing, pcm)
