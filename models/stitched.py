"""A windowed separator of speakers made continuous: its windows stitched so that each output stays the same voice.

A separator like SepFormer has no memory: every window gives its speakers in any order. Here its windows are cut, put in one
order by `streaming.align` and cross-faded, inside a `Separator` that to all others is like a causal one: it is given a hop,
carries state, and declares by how much it is late. Its timeline is that of `streaming.cut` and `streaming.join` with the same
framing: with h samples heard the newest window ends at h, and all before `h - fade - lookahead` is final.

Beside the sound that two windows share, the order may rest on an encoder of voices and on a live diarizer. Where the
separator tells when each of its outputs speaks (`models.hearing`), that is believed rather than their levels, and goes with them:
put in order, cross-faded, told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from models.diarizer import FRAME, Diarizer
from models.hearing import Hearing, heard
from models.separator import Separator
from streaming import align, align_cues, resample
from streaming.framing import Array, Framing
from streaming.resample import Ratio

RATE = 16000  # of encoders and diarizers
VOICE = 160 * FRAME  # samples that an encoder hears of a voice

Encoder = Callable[[Sequence[Array]], Array]
"""Speaker embeddings: `[B, T]` at 16 kHz to `[B, D]` unit vectors about their common mean, as
`models.voiceprint.load().apart`."""


class Embeds(Protocol):
    """What has such an encoder (`models.voiceprint`)."""

    def apart(self, pcm: Sequence[Array]) -> Array: ...


@dataclass(frozen=True)
class State:
    """A session.

    Attributes:
        audio: `[C, window]` heard last, zeros before the beginning.
        heard: samples in all.
        open: `[S, C, support - hop]`: the weighted sum of what windows have said of samples that are not final; with a separator
            that hears, one channel more: the probabilities.
        inner: the separator's own state.
        align: the order, what it rests on, margin and number of swaps.
        into: conversion to 16 kHz for the diarizer.
        diarizer: its state; None without one.
        probs: `[F, N]`: its frames up to the newest told, as many as a window needs; N = 0 without one.
        told: frames told in all.
        spoken: `[S, T]`: of a separator that hears, the probability that each output speaks at each sample the last run told.
    """

    audio: Array
    heard: int
    open: Array
    inner: Any
    align: align.State
    into: resample.ResampleState
    diarizer: Any
    probs: Array
    told: int = 0
    spoken: Array | None = None


class Stitched:
    """See `Separator`.

    Args:
        separator: mono, windowed, of interchangeable outputs.
        encoder: of voices; None to leave that cue out.
        diarizer: None to leave that cue out.
        framing: of the windows; support > hop, so that neighbours share more than an edge. The model's own if None.

    Raises:
        ValueError: a separator that this cannot be made of, saying why.
    """

    def __init__(
        self,
        separator: Separator,
        encoder: Encoder | None = None,
        diarizer: Diarizer | None = None,
        framing: Framing | None = None,
        rules: align_cues.Rules | None = None,
        profile: str | None = None,
    ) -> None:
        spec = separator.spec
        if not spec.interchangeable or len(spec.sources) < 2 or spec.channels != 1:
            raise ValueError(f"got {spec.name}, expected a mono separator of two or more interchangeable outputs")
        self.separator, self.encoder, self.diarizer = separator, encoder, diarizer
        self.framing, self.rules, self.profile = framing or spec.framing, rules or align_cues.Rules(), profile
        if self.framing.window <= self.framing.hop or self.framing.delay:
            raise ValueError(f"got {self.framing!r} for {spec.name}, expected overlapping windows and no delay")
        if spec.rate % 100:
            raise ValueError(f"got {spec.name} at {spec.rate} Hz, expected a whole number of samples in 10 ms")
        self.frame, hop = spec.rate // 100, self.framing.hop
        self.hears = isinstance(separator, Hearing)
        self.spec = replace(
            spec,
            framing=Framing(hop, hop, delay=self.framing.fade + self.framing.lookahead),
            windows=(),
            memory=self.framing.window + self.framing.fade,  # for the sound; who is who is learned anew
        )
        weights = self.framing.weights()
        self._weights = weights / _folded(weights, hop)

    def start(self) -> State:
        channels, sources = self.spec.channels, len(self.spec.sources)
        return State(
            audio=np.zeros((channels, self.framing.window), np.float32),
            heard=0,
            open=np.zeros((sources, channels + self.hears, self.framing.fade), np.float32),
            inner=self.separator.start(),
            align=align.State(),
            into=resample.start(Ratio(self.spec.rate, RATE), 1),
            diarizer=self.diarizer.start(self.profile) if self.diarizer else None,
            probs=np.zeros((0, self.diarizer.spec.speakers if self.diarizer else 0), np.float32),
        )

    def run(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """See `Separator.run`; `[B, C, hop*k]` to `[B, S, C, hop*k]`.

        Raises:
            ValueError: a shape that is not B rows of whole hops (the caller's mistake).
        """
        hop = self.framing.hop
        if (
            pcm.ndim != 3
            or pcm.shape[:2] != (len(states), self.spec.channels)
            or pcm.shape[2] % hop
            or not pcm.shape[2]
        ):
            raise ValueError(f"got pcm {pcm.shape}, expected [{len(states)}, {self.spec.channels}, multiple of {hop}]")
        told, current = [], list(states)
        for at in range(0, pcm.shape[2], hop):
            stems, current = self._step(pcm[:, :, at : at + hop], current)
            told.append(stems)
        out = np.concatenate(told, -1)
        if self.hears:
            current = [replace(state, spoken=row[:, 1]) for state, row in zip(current, out, strict=True)]
        return np.ascontiguousarray(out[:, :, : self.spec.channels]), current

    def _step(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """One window of each session."""
        audio = np.stack(
            [np.concatenate((s.audio, row), 1)[:, row.shape[1] :] for s, row in zip(states, pcm, strict=True)]
        )
        stems, inner, spoken = heard(self.separator, audio, [state.inner for state in states])
        states = self._who_speaks(pcm[:, 0], states)
        states = [
            replace(s, audio=a, inner=i, heard=s.heard + pcm.shape[2])
            for s, a, i in zip(states, audio, inner, strict=True)
        ]
        aligned = self._ordered(stems[:, :, 0], spoken, states)
        stems = stems if spoken is None else np.concatenate((stems, spoken[:, :, None]), 2)
        out, after = [], []
        for state, order, row in zip(states, aligned, stems, strict=True):
            told, rest = self._faded(state.open, row[list(order.order)])
            out.append(told)
            after.append(replace(state, open=rest, align=order))
        return np.stack(out), after

    def _faded(self, waiting: Array, stems: Array) -> tuple[Array, Array]:
        """What is final now, `[S, C, hop]`, and the sum of what is not."""
        framing = self.framing
        total = stems[..., framing.context : framing.context + framing.support] * self._weights
        total[..., : framing.fade] += waiting
        return total[..., : framing.hop], total[..., framing.hop :].copy()

    def _ordered(self, stems: Array, spoken: Array | None, states: Sequence[State]) -> list[align.State]:
        """What is known after `B` windows `[S, W]`: first of all, their order."""
        windows = []
        for n, (state, row) in enumerate(zip(states, stems, strict=True)):
            active = None if spoken is None else framed(spoken[n], self.frame)
            windows.append(align.hear(self.rules, state.align, row, self.frame, active))
        embedded = self._embedded([window for _, window in windows])
        after = []
        for state, (known, window), rows in zip(states, windows, embedded, strict=True):
            window = replace(window, embeddings=rows, probs=self._probs(state))
            after.append(align.align(self.rules, known, window, self.framing.hop)[0])
        return after

    def _embedded(self, windows: Sequence[align_cues.Heard]) -> list[Array | None]:
        """Embeddings `[2, S, D]` of each window; of all sessions in one call."""
        if self.encoder is None:
            return [None] * len(windows)
        spans = np.stack([(window.said, window.alone) for window in windows])  # [B, 2, S, F]
        places = np.argwhere(spans.sum(-1) >= self.rules.embed)
        if not len(places):
            return [None] * len(windows)
        rows = self.encoder([voice(windows[n].sources[s], spans[n, k, s], self.frame) for n, k, s in places])
        out = np.zeros((*spans.shape[:3], rows.shape[1]), np.float32)
        out[tuple(places.T)] = rows
        return list(out)

    def _who_speaks(self, pcm: Array, states: Sequence[State]) -> list[State]:
        """The diarizer hears `[B, hop]`."""
        if self.diarizer is None:
            return list(states)
        ratio = Ratio(self.spec.rate, RATE)
        converted = [resample.push(ratio, state.into, row[None]) for state, row in zip(states, pcm, strict=True)]
        sound = [np.ascontiguousarray(row[0], np.float32) for _, row in converted]
        told, after = self.diarizer.run(sound, [state.diarizer for state in states])
        keep = self.framing.window // self.frame + 2
        return [
            replace(s, into=into, diarizer=d, probs=np.concatenate((s.probs, p))[-keep:], told=s.told + len(p))
            for s, (into, _), d, p in zip(states, converted, after, told, strict=True)
        ]

    def _probs(self, state: State) -> Array | None:
        """The diarizer's frames from the beginning of the newest window on, `[F, N]`."""
        if self.diarizer is None:
            return None
        first = round((state.heard - self.framing.window) / self.frame)
        have = state.told - len(state.probs)
        before = np.zeros((max(0, min(have, state.told) - first), state.probs.shape[1]), np.float32)
        return np.concatenate((before, state.probs[max(0, first - have) :]))


def framed(rows: Array, frame: int) -> Array:
    """Means over frames: `[S, T]` to `[S, T // frame]`."""
    frames = rows.shape[1] // frame
    return np.asarray(rows[:, : frames * frame].reshape(len(rows), frames, frame).mean(2))


def voice(source: Array, alone: align_cues.Flags, frame: int) -> Array:
    """The last that was said alone, over and over until it is long enough for an encoder: `[T]` to `[VOICE]` at 16 kHz."""
    said = source[: len(alone) * frame].reshape(-1, frame)[alone].reshape(1, -1)
    ratio = Ratio(frame * 100, RATE)
    state, out = resample.push(ratio, resample.start(ratio, 1), said)
    out = np.concatenate((out, resample.finish(ratio, state)), 1)[0, -VOICE:]
    return np.asarray(np.tile(out, -(-VOICE // max(1, len(out))))[:VOICE], np.float32)


def _folded(weights: Array, hop: int) -> Array:
    """The sum of the weights of all windows at each place of a support: it repeats with the hop."""
    padded = np.pad(weights, (0, -len(weights) % hop)).reshape(-1, hop).sum(0)
    return np.asarray(np.tile(padded, -(-len(weights) // hop))[: len(weights)], np.float32)


def continuous(separator: Separator, encoder: Callable[[], Embeds | None]) -> Separator:
    """A windowed separator of speakers with its windows in one order; any other as it is."""
    framing = separator.spec.framing
    windowed = bool(separator.spec.windows) and framing.window > framing.hop and not framing.delay
    if not (windowed and separator.spec.interchangeable and len(separator.spec.sources) > 1):
        return separator
    found = encoder()
    return Stitched(separator, found.apart if found else None)
