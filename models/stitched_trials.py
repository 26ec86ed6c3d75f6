"""Separators and a diarizer to try stitching on: without memory, with known truth, and in the best order there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from models import diarizer
from models.separator import Separator, Spec
from streaming.framing import Array as Audio
from streaming.framing import Framing

LATE = 104 * diarizer.FRAME  # of the reference diarizer


@dataclass
class Afresh:
    """A model with memory, robbed of it: each window from its zero state. `window` is rounded to whole hops of the model."""

    model: Separator
    spec: Spec

    @classmethod
    def of(cls, model: Separator, window: int, hop: int) -> Afresh:
        step, late = model.spec.framing.hop, model.spec.framing.delay
        window = -(-window // step) * step
        framing = Framing(window, hop, lookahead=late)  # its last samples have not been told yet
        return cls(model, replace(model.spec, framing=framing, windows=(window,), memory=0))

    def start(self) -> None:
        return None

    def run(self, pcm: Audio, states: Sequence[Any]) -> tuple[Audio, list[Any]]:
        late, length = self.model.spec.framing.delay, pcm.shape[2]
        step = self.model.spec.framing.hop
        padded = np.pad(pcm, ((0, 0), (0, 0), (0, -(-(length + late) // step) * step - length)))
        stems, _ = self.model.run(padded, [self.model.start() for _ in states])
        return stems[..., late : late + length].copy(), list(states)


@dataclass
class Oracle:
    """The true voices `[P, T]` with cross-talk, in another order in each window. A state is the number of the window.

    `leak` is the least and the most that the others are below the voice of an output, dB.
    """

    voices: Audio
    leak: tuple[float, float]
    seed: int
    spec: Spec

    def start(self) -> int:
        return 0

    def run(self, pcm: Audio, states: Sequence[int]) -> tuple[Audio, list[int]]:
        out = []
        for index in states:
            rng = np.random.default_rng((self.seed, index))
            true = window_of(self.voices, self.spec.framing, index)
            gain = 10 ** (-rng.uniform(*self.leak, (len(true), len(true))) / 20)
            np.fill_diagonal(gain, 1)
            out.append((gain.astype(np.float32) @ true)[rng.permutation(len(true)), None])
        return np.stack(out), [index + 1 for index in states]


@dataclass
class Ordered:
    """Another separator's outputs in the order that fits the true voices best. A state is the number of the window."""

    inner: Separator
    voices: Audio
    tracks: tuple[int, ...]
    spec: Spec

    def start(self) -> tuple[int, Any]:
        return 0, self.inner.start()

    def run(self, pcm: Audio, states: Sequence[tuple[int, Any]]) -> tuple[Audio, list[tuple[int, Any]]]:
        stems, after = self.inner.run(pcm, [inner for _, inner in states])
        for row, (index, _) in zip(stems, states, strict=True):
            common = window_of(self.voices, self.spec.framing, index) @ row[:, 0].T
            row[:] = row[list(best_order(common, self.tracks)[0])]
        return stems, [(index + 1, inner) for (index, _), inner in zip(states, after, strict=True)]


class Once:
    """What a separator says of a window that it was given before is not computed again."""

    def __init__(self, inner: Separator) -> None:
        self.inner, self.spec = inner, inner.spec
        self._said: dict[bytes, tuple[Audio, Any]] = {}

    def start(self) -> Any:
        return self.inner.start()

    def run(self, pcm: Audio, states: Sequence[Any]) -> tuple[Audio, list[Any]]:
        keys = [row.tobytes() + repr(state).encode() for row, state in zip(pcm, states, strict=True)]
        for key, row, state in zip(keys, pcm, states, strict=True):
            if key not in self._said:
                stems, (after,) = self.inner.run(row[None], [state])
                self._said[key] = stems[0], after
        return np.stack([self._said[key][0] for key in keys]), [self._said[key][1] for key in keys]


class Reference:
    """A diarizer that knows the truth `[F, P]`, is late, and is wrong for a share of the time: silent, or about who it was."""

    def __init__(self, active: Audio, wrong: float, seed: int) -> None:
        first = np.argsort([row.argmax() if row.any() else row.size for row in active.T], kind="stable")
        self.probs = active[:, first] * np.float32(0.9) + np.float32(0.05)
        rng, at = np.random.default_rng(seed), 0
        while at < len(self.probs):
            length = int(rng.integers(30, 120))
            if rng.random() < wrong:
                part = self.probs[at : at + length]
                part[:] = 0.05 if rng.random() < 0.5 else part[:, rng.permutation(part.shape[1])]
            at += length
        profile = diarizer.Profile(9, 4, 0, 0, 0)
        self.spec = diarizer.Spec("reference", self.probs.shape[1], {"1.04s": profile})

    def start(self, profile: str | diarizer.Profile | None = None) -> tuple[int, int]:
        return 0, 0

    def run(self, pcm: Sequence[Audio], states: Sequence[Any]) -> tuple[list[Audio], list[Any]]:
        heard = [state[0] + len(row) for row, state in zip(pcm, states, strict=True)]
        told = [max((count - LATE) // diarizer.FRAME, 0) for count in heard]
        return [self.probs[old : max(old, new)] for (_, old), new in zip(states, told, strict=True)], [
            (count, max(old, new)) for count, (_, old), new in zip(heard, states, told, strict=True)
        ]

    def finish(self, state: tuple[int, int]) -> Audio:
        return self.probs[state[1] : state[0] // diarizer.FRAME]

    def state_bytes(self, profile: str | diarizer.Profile | None = None) -> int:
        return 16


def window_of(voices: Audio, framing: Framing, index: int) -> Audio:
    """`[P, window]`: what was said in window `index` of `Stitched`, which ends at `(index + 1) * hop`."""
    end = (index + 1) * framing.hop
    part = voices[:, max(0, end - framing.window) : end]
    part = np.pad(part, ((0, 0), (0, min(end, framing.window) - part.shape[1])))
    return np.asarray(np.pad(part, ((0, 0), (framing.window - part.shape[1], 0))), np.float32)


def best_order(common: Audio, tracks: Sequence[int]) -> tuple[tuple[int, ...], float]:
    """The order of sources that agrees most with people's tracks, and how much; `common` `[P, S]` are inner products."""
    agreed = {order: sum(common[p, order[track]] for p, track in enumerate(tracks))
              for order in permutations(range(common.shape[1]))}  # fmt: skip
    order = max(agreed, key=lambda key: agreed[key])
    return order, float(agreed[order])


def best_tracks(separator: Separator, pcm: Audio, voices: Audio) -> tuple[int, ...]:
    """A track for each person, the same all along, with which the best orders agree most."""
    framing, sources = separator.spec.framing, len(separator.spec.sources)
    state, common = separator.start(), []
    for index in range(-(-len(pcm) // framing.hop)):
        stems, (state,) = separator.run(window_of(pcm[None], framing, index)[None], [state])
        common.append(window_of(voices, framing, index) @ stems[0, :, 0].T)
    people = len(voices)
    maps = permutations(range(sources), people) if people <= sources else _maps(sources, people)
    return max(maps, key=lambda tracks: sum(best_order(one, tracks)[1] for one in common))


def _maps(sources: int, people: int) -> Iterator[tuple[int, ...]]:
    for number in range(sources**people):
        yield tuple(number // sources**p % sources for p in range(people))
