"""Separators without torch, whose right answer is known by arithmetic. Real objects with knobs, for tests and load."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.separator import Spec
from streaming.framing import Array, Framing

RATE = 16_000


def _spec(name: str, framing: Framing, channels: int = 1, windows: tuple[int, ...] = (), memory: int = 0) -> Spec:
    return Spec(name, RATE, channels, ("low", "high"), framing, windows=windows, licence="Apache-2.0", memory=memory)


@dataclass(frozen=True)
class Split:
    """Stateless and instantaneous: a quarter and three quarters of the input. `busy_s` is how long one run takes."""

    spec: Spec = _spec("toy-split", Framing(window=160, hop=160))
    busy_s: float = 0.0

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        if self.busy_s:
            time.sleep(self.busy_s)
        return np.stack((pcm * np.float32(0.25), pcm * np.float32(0.75)), axis=1), list(states)


@dataclass(frozen=True)
class Delay:
    """A pure delay line: proves that a declared delay is taken off exactly, and that the end is drained."""

    spec: Spec = _spec("toy-delay", Framing(window=128, hop=128, delay=200), memory=201)

    def start(self) -> Array:
        return np.zeros((self.spec.channels, self.spec.framing.delay), np.float32)

    def run(self, pcm: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        line = np.concatenate((np.stack(list(states)), pcm), axis=2)
        late = line[:, :, : pcm.shape[2]]
        stems = np.stack((late * np.float32(0.25), late * np.float32(0.75)), axis=1)
        return stems, [row[:, pcm.shape[2] :].copy() for row in line]


@dataclass(frozen=True)
class Leaky:
    """One pole, `y[n] = x[n]/16 + y[n-1]*15/16`, and what it leaves: state that a wrong row or a lost window spoils for long."""

    spec: Spec = _spec("toy-leaky", Framing(window=64, hop=64), channels=2, memory=400)

    def start(self) -> Array:
        return np.zeros(self.spec.channels, np.float32)

    def run(self, pcm: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        low, held = np.empty_like(pcm), np.stack(list(states)).astype(np.float32)
        for sample in range(pcm.shape[2]):
            held = (pcm[:, :, sample] + 15 * held) / np.float32(16)
            low[:, :, sample] = held
        return np.stack((low, pcm - low), axis=1), [row.copy() for row in held]


@dataclass(frozen=True)
class Ramp:
    """Stateless and windowed; says something else at every place of its window, so that a wrong seam or weight shows."""

    spec: Spec = _spec("toy-ramp", Framing(window=400, hop=100, context=180, lookahead=60))

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        place = np.linspace(0, 1, pcm.shape[2], dtype=np.float32)
        return np.stack((pcm * place, pcm * (1 - place) + pcm.mean(axis=2, keepdims=True)), axis=1), list(states)


def all_toys() -> dict[str, Any]:
    """Every toy by name; `toy-wide` cross-fades more than two windows, `toy-long` may be cut in several ways."""
    wide = Ramp(_spec("toy-wide", Framing(window=400, hop=50, context=100, lookahead=40)))
    framing = Framing(window=16_000, hop=4_000, context=9_000, lookahead=2_000)
    long = Ramp(_spec("toy-long", framing, windows=(8_000, 16_000, 32_000)))
    toys: list[Any] = [Split(), Delay(), Leaky(), Ramp(), wide, long]
    return {toy.spec.name: toy for toy in toys}


def busy(seconds: float) -> Split:
    """A `Split` whose every run takes so long."""
    return replace(Split(), busy_s=seconds)
