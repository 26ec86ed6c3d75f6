"""Separators that also tell who speaks: the probability, through each window, that each of its outputs does.

ToTaToNet does (`models.totatonet`). A level says less than such a model knows: a voice that leaked into another output is
loud there, and a soft one is not silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from models.separator import Separator, Spec
from streaming.framing import Array


@runtime_checkable
class Hearing(Protocol):
    """A stateless windowed `Separator` that hears its own outputs. `frame`: samples between two probabilities."""

    spec: Spec
    frame: int

    def start(self) -> None: ...

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]: ...

    def both(self, pcm: Array) -> tuple[Array, Array]:
        """Windows `[B, 1, W]` to stems `[B, S, 1, W]`, as `run` gives them, and probabilities `[B, F, S]`: column s is of output
        s of that window, frame f of the samples from `frame * f` on."""
        ...


def heard(separator: Separator, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any], Array | None]:
    """As `Separator.run`, and the probability at each sample that each output speaks, `[B, S, W]`; None of one that is deaf."""
    if not isinstance(separator, Hearing):
        return *separator.run(pcm, states), None
    stems, spoken = separator.both(pcm)
    frames = np.minimum(np.arange(pcm.shape[2]) // separator.frame, spoken.shape[1] - 1)  # the last lasts to the end
    return stems, list(states), np.ascontiguousarray(spoken.transpose(0, 2, 1)[:, :, frames], np.float32)


class Padded:
    """A hearing separator with silent outputs beside its own, so that more people have one than speak at once."""

    def __init__(self, inner: Hearing, outputs: int) -> None:
        names = tuple(f"speaker_{n + 1}" for n in range(max(outputs, len(inner.spec.sources))))
        self.inner, self.frame, self.spec = inner, inner.frame, replace(inner.spec, sources=names)

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        return self.both(pcm)[0], list(states)

    def both(self, pcm: Array) -> tuple[Array, Array]:
        stems, spoken = self.inner.both(pcm)
        more = len(self.spec.sources) - stems.shape[1]
        return np.pad(stems, ((0, 0), (0, more), (0, 0), (0, 0))), np.pad(spoken, ((0, 0), (0, 0), (0, more)))
