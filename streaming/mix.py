"""What a client gets of the stems: chosen ones, derived ones, a mix. All of it is one matrix, `[outputs, sources]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streaming.framing import Array

WITHOUT = "no_"


def needed(sources: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The sources that the wanted outputs are made of, in the model's order: `no_vocals` is all but vocals.

    Raises:
        ValueError: a wanted output that the model does not have, naming those that it has.
    """
    return tuple(source for column, source in enumerate(sources) if matrix(sources, wanted)[:, column].any())


def matrix(sources: Sequence[str], wanted: Sequence[str]) -> Array:
    """Row for row, how the wanted outputs are summed from the sources: a source by its name, or `no_<source>`."""
    rows = np.zeros((len(wanted), len(sources)), np.float32)
    for row, name in zip(rows, wanted, strict=True):
        if name in sources:
            row[sources.index(name)] = 1
        elif name.startswith(WITHOUT) and name.removeprefix(WITHOUT) in sources:
            row[:] = 1
            row[sources.index(name.removeprefix(WITHOUT))] = 0
        else:
            have = [*sources, *(WITHOUT + source for source in sources)]
            raise ValueError(f"got stem {name!r}, this model has {', '.join(have)}")
    return rows


def mixdown(sources: Sequence[str], gains: Mapping[str, float]) -> Array:
    """One row: the sum of all sources by their gains, 1 where none is given.

    Raises:
        ValueError: a gain for a source that is not there, or one that is not finite in 0..4.
    """
    for name, gain in gains.items():
        if name not in sources:
            raise ValueError(f"got a gain for {name!r}, this model has {', '.join(sources)}")
        if not 0 <= gain <= 4:
            raise ValueError(f"got gain {gain} for {name!r}, expected 0 to 4")
    return np.array([[gains.get(name, 1.0) for name in sources]], np.float32)


@dataclass(frozen=True)
class Fader:
    """A matrix on its way to another, by `left` steps of `step`, one a sample: no jump, so no click.

    The ramp is linear in gain over `RAMP_MS`: a step of 1 then changes a full-scale signal by -60 dB a sample at 44.1 kHz.
    """

    now: Array
    target: Array
    left: int = 0

    def towards(self, target: Array, samples: int) -> Fader:
        """The same fader, now bound for `target` in `samples`."""
        return Fader(self.now, target, samples)

    def apply(self, stems: Array) -> tuple[Fader, Array]:
        """`[S, C, T]` to `[outputs, C, T]`, and the fader as it stands afterwards."""
        length = stems.shape[-1]
        if self.left == 0 and np.array_equal(self.target, np.eye(len(self.target))):
            return self, stems  # all of the model, as it is: what nearly everybody wants
        if self.left == 0:
            return self, np.asarray(np.einsum("os,sct->oct", self.target, stems), np.float32)
        part = np.minimum(np.arange(1, length + 1, dtype=np.float32) / self.left, 1)
        gains = self.now[..., None] + (self.target - self.now)[..., None] * part
        left = max(self.left - length, 0)
        now = self.target if left == 0 else gains[..., -1]
        return Fader(now, self.target, left), np.asarray(np.einsum("ost,sct->oct", gains, stems), np.float32)


RAMP_MS = 20


def fit(pcm: Array, channels: int) -> Array:
    """`[..., C, T]` with so many channels: mono goes to both, stereo is averaged."""
    if pcm.shape[-2] == channels:
        return pcm
    if channels == 1:
        return np.asarray(pcm.mean(axis=-2, keepdims=True, dtype=np.float32))
    return np.repeat(pcm, channels, axis=-2)
