"""Keeps the interchangeable outputs of a windowed separator in one order, by three cues.

A separator without memory gives each window's speakers in any order. Neighbouring windows overlap, so what both say of the
same samples tells which output of the one is which of the other; but only while somebody speaks there, and a mistake is
never noticed. Two more cues remember: what the voices of a track sound like, and when a diarizer says that they speak.
Each cue is a matrix `[S, S]`: how much speaks for source j (column) being track i (row). Their weighted sum is
matched (`streaming.matching`); of all orders the previous one stays unless another is clearly better.

- overlap: SI-SDR (J. Le Roux et al., 2019, arXiv:1811.02508) of the source against what the window before said, on the
  samples that both heard. Bounded, so that one pair that fits to 60 dB does not outvote all others. Weighted by both levels:
  SI-SDR alone is as high for the trace of a voice that leaked into the other output.
- voice: cosine of the source's embedding to the voices that the track has had.
- activity: how much of the energy the source has when those people speak who, by the diarizer, belong to the track.

More people than outputs share tracks: a track may have several voices and several of the diarizer's people.

All of it is pure: a state is a value, and audio at any level gives the same order, for silence is relative to what has been
heard so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streaming import matching
from streaming.align_cues import TINY, Heard, Rules, Voices, activity_cue, overlap_cue, voice_cue
from streaming.align_memory import learned_bonds, learned_voices
from streaming.framing import Array
from streaming.matching import Scores


@dataclass(frozen=True)
class State:
    """Between two windows.

    Attributes:
        tail: `[S, T]`: the window before, in the order of the tracks, from where the next one begins.
        order: the source that was each track.
        loudest: mean square of the loudest frame, forgetting.
        belief: `[S, S]`: how much speaks for the sound of a track (column) being that of each track (row).
        voices: see there; None before the first embedding.
        bonds: `[S, N]`: frames in which a person of the diarizer spoke on a track; None before the first.
        windows, swaps: how many there were, and how often the order changed.
        margin: by how much the last decision beat the second best.
    """

    tail: Array | None = None
    order: tuple[int, ...] = ()
    loudest: float = 0.0
    belief: Scores | None = None
    voices: Voices | None = None
    bonds: Array | None = None
    windows: int = 0
    swaps: int = 0
    margin: float = 0.0


def hear(rules: Rules, state: State, sources: Array, frame: int) -> tuple[State, Heard]:
    """Levels of a window `[S, T]` with `frame` samples in 10 ms; the state knows the loudest."""
    count, frames = len(sources), sources.shape[1] // frame
    energy = np.square(sources[:, : frames * frame].reshape(count, frames, frame), dtype=np.float64).mean(2)
    energy = np.nan_to_num(energy)  # what is not a number is not sound
    smooth = _smoothed(energy)
    level = energy.sum(0)
    loudest = max(state.loudest, float(level.max(initial=0)))
    sound = level > max(loudest * 10 ** (-rules.gate_db / 10), TINY)
    others = smooth.sum(0) - smooth
    alone = sound & (smooth > others * 10 ** (rules.lead_db / 10))
    return replace(state, loudest=loudest), Heard(sources, energy, sound, alone)


def align(rules: Rules, state: State, heard: Heard, hop: int) -> tuple[State, Array]:
    """The sources of a window in the order of the tracks, `[S, T]`; the next window begins `hop` samples later."""
    scores, belief = judged(rules, state, heard)
    order = decided(rules, state.order, scores)
    tracks = heard.sources[list(order)]
    belief = belief[:, list(order)]
    trusted = belief.max(0) - belief.diagonal() <= rules.trust
    elapsed = hop / max(heard.sources.shape[1], 1) * len(heard.sound)
    after = State(
        tail=tracks[:, hop:],
        order=order,
        loudest=state.loudest * 0.5 ** (elapsed / rules.forget),
        belief=belief,
        voices=learned_voices(rules, state.voices, heard, order, trusted),
        bonds=learned_bonds(rules, state.bonds, heard, order, trusted),
        windows=state.windows + 1,
        swaps=state.swaps + (bool(state.order) and order != state.order),
        margin=matching.margin(scores, order, _sounding(heard)),
    )
    return after, tracks


def judged(rules: Rules, state: State, heard: Heard) -> tuple[Scores, Scores]:
    """Scores and beliefs of each source for each track, `[S, S]`.

    What was believed of a sound goes with it: by the overlap to the source that continues it. So evidence adds up while
    somebody speaks, until it undoes an order that was a guess.
    """
    overlap = rules.overlap * overlap_cue(rules, state.tail, heard)
    belief = rules.voice * voice_cue(rules, state.voices, heard) + rules.activity * activity_cue(
        rules, state.bonds, heard
    )
    if state.belief is not None:
        belief = belief + rules.keep * state.belief @ _continued(np.nan_to_num(overlap))
    belief = np.clip(np.nan_to_num(belief), -rules.limit, rules.limit)
    return np.nan_to_num(overlap) + belief, belief


def _continued(overlap: Scores) -> Scores:
    """The same without pairs of which one side fits another far better: a trace of a voice is not that voice going on."""
    best = np.maximum(overlap.max(0), overlap.max(1)[:, None])
    return np.where(overlap >= best / 2, overlap, 0)


def decided(rules: Rules, before: tuple[int, ...], scores: Scores) -> tuple[int, ...]:
    """The best order, or the one before where that is hardly worse."""
    order = matching.best(scores)
    before = before or tuple(range(len(scores)))
    return before if matching.total(scores, order) - matching.total(scores, before) <= rules.stay else order


def _sounding(heard: Heard, least_db: float = 15.0) -> list[int]:
    """Sources that are not much softer than the loudest of the window, if that is not silence."""
    if not heard.sound.any():
        return []
    level = heard.energy.sum(1)
    return [int(n) for n in np.flatnonzero(level > level.max() * 10 ** (-least_db / 10))]


def _smoothed(energy: Scores, width: int = 11) -> Scores:
    """Moving average over frames, so that a voice is not cut at every consonant."""
    sums = np.cumsum(np.pad(energy, ((0, 0), (width // 2 + 1, width // 2)), mode="edge"), axis=1)
    return np.asarray(sums[:, width:] - sums[:, :-width])
