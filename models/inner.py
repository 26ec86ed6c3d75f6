"""A separator inside another: any rate, any framing, fed with whatever samples there are, many sessions at a time.

What `streaming.pipeline` does for one session in a generator, here as a value: conversion to the separator's rate, cut,
run, join, conversion back. Of all sessions, the windows that are due go to the separator together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.separator import Separator
from streaming import cut, join, resample
from streaming.choose import several
from streaming.cut import Window
from streaming.framing import Array
from streaming.plan import Plan
from streaming.resample import Ratio


@dataclass(frozen=True)
class State:
    """Of one session: where each stage of its timeline stands, and the separator's own state."""

    into: resample.ResampleState
    cut: cut.CutState
    join: join.JoinState
    inner: Any
    back: resample.ResampleState


class Inner:
    """`separator` on a timeline of `rate` Hz, of which about `hop` samples come at a time."""

    def __init__(self, separator: Separator, rate: int, hop: int) -> None:
        spec, framing = separator.spec, separator.spec.framing
        # A stateful separator gives the same samples in longer runs: whole ones, where that is possible.
        together = hop * spec.rate // rate
        if not spec.windows and together % framing.hop == 0 and framing.window == framing.hop:
            framing = several(framing, max(together // framing.hop, 1))
        self.separator, self.plan = separator, Plan(rate, spec.channels, spec.rate, framing)
        self._into, self._back = Ratio(rate, spec.rate), Ratio(spec.rate, rate)

    @property
    def latency(self) -> int:
        """Samples at the outer rate; what was heard before the last so many is told."""
        return self.plan.latency

    def start(self) -> State:
        spec = self.separator.spec
        return State(
            resample.start(self._into, spec.channels),
            cut.start(spec.channels),
            join.start(self.plan.framing),
            self.separator.start(),
            resample.start(self._back, len(spec.sources) * spec.channels),
        )

    def run(
        self, pcm: Sequence[Array], states: Sequence[State], quiet: Sequence[int] | None = None
    ) -> tuple[list[Array], list[State], list[list[Any]]]:
        """Hear the next samples of B sessions, each `[C, T_b]`.

        Args:
            quiet: samples at the end of what each session has heard that are worth nothing: windows with nothing else in them
                are not run, and give silence.

        Returns:
            What has become known of their stems, `[S, C, T]`, following one another from sample 0; the next states; and the
            states of the separator after each of its runs, of those that there were.
        """
        spec = self.separator.spec
        current, waiting = list(states), []
        for row, samples in enumerate(pcm):
            into, heard = resample.push(self._into, states[row].into, samples)
            cutting, windows = cut.push(self.plan.framing, states[row].cut, heard)
            current[row] = replace(states[row], into=into, cut=cutting)
            waiting.append(windows)
        told = [[np.zeros((len(spec.sources), spec.channels, 0), np.float32)] for _ in states]
        passed: list[list[Any]] = [[] for _ in states]
        if quiet is not None:
            for row, silent in enumerate(quiet):
                worthless = silent >= self.plan.framing.window * self.plan.rate / self.plan.model_rate
                while worthless and waiting[row]:
                    current[row], out = self._join(current[row], window := waiting[row].pop(0), self._silence(window))
                    told[row].append(out)
        while due := [row for row, windows in enumerate(waiting) if windows]:
            windows = [waiting[row].pop(0) for row in due]
            stems, after = self.separator.run(np.stack([w.pcm for w in windows]), [current[row].inner for row in due])
            for row, window, one, inner in zip(due, windows, stems, after, strict=True):
                current[row], out = self._join(replace(current[row], inner=inner), window, one)
                told[row].append(out)
                passed[row].append(inner)
        return [np.concatenate(parts, -1) for parts in told], current, passed

    def _silence(self, window: Window) -> Array:
        return np.zeros((len(self.separator.spec.sources), *window.pcm.shape), np.float32)

    def _join(self, state: State, window: Window, stems: Array) -> tuple[State, Array]:
        joining, chunk = join.accept(self.plan.framing, state.join, window, stems)
        sources, channels, length = chunk.stems.shape
        back, out = resample.push(self._back, state.back, chunk.stems.reshape(sources * channels, length))
        return replace(state, join=joining, back=back), out.reshape(sources, channels, out.shape[1])
