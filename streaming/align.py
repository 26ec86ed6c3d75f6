"""Keeps the interchangeable outputs of a windowed separator in one order, by three cues.

A separator without memory gives each window's speakers in any order. Neighbouring windows overlap, so what both say of the
same samples tells which output of the one is which of the other; but only while somebody speaks there, and a mistake is
never noticed. Two more cues remember: what the voices of a track sound like, and when a diarizer says that they speak.
Each cue is a matrix `[S, S]`: how much speaks for source j (column) being track i (row). Their weighted sum is
matched (`streaming.matching`); of all orders the previous one stays unless another is clearly better.

- overlap: SI-SDR (J. Le Roux et al., 2019, arXiv:1811.02508) of the source against what the window before said, on the
  samples that both heard. Bounded, so that one pair that fits to 60 dB does not outvote all others. Weighted by both levels:
  SI-SDR alone is as high for the trace of a voice that leaked into the other output.
- voice: cosine of the source's embedding to the voices of the people whose track it is (`streaming.align_people`).
- activity: how much of the energy the source has when those people speak who, by the diarizer, belong to the track. Where there
  are voices, those decide who belongs to it: a diarizer that contradicts them counts for little.

More people than outputs share tracks: a track may have several voices and several of the diarizer's people.

All of it is pure: a state is a value, and audio at any level gives the same order, for silence is relative to what has been
heard so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streaming import matching
from streaming.align_cues import TINY, Heard, Rules, activity_cue, confirmed, overlap_cue, owned, voice_cue
from streaming.align_memory import learned_bonds, learned_pieces
from streaming.align_people import Pieces, found
from streaming.framing import Array
from streaming.matching import Scores


@dataclass(frozen=True)
class State:
    """Between two windows.

    Attributes:
        tail: `[S, T]`: the window before, in the order of the tracks, from where the next one begins.
        order: the source that was each track.
        loudest: mean square of the loudest frame, forgetting.
        pieces: of voices; None before the first.
        bonds: `[S, N]`: frames in which a person of the diarizer spoke on a track; None before the first.
        windows, swaps: how many there were, and how often the order changed.
        margin: by how much the last decision beat the second best.
    """

    tail: Array | None = None
    order: tuple[int, ...] = ()
    loudest: float = 0.0
    pieces: Pieces | None = None
    bonds: Array | None = None
    windows: int = 0
    swaps: int = 0
    margin: float = 0.0


def hear(rules: Rules, state: State, sources: Array, frame: int, active: Array | None = None) -> tuple[State, Heard]:
    """Levels of a window `[S, T]` with `frame` samples in 10 ms; the state knows the loudest.

    Where the separator tells how probable it is that each source speaks, `active` `[S, T // frame]`, a source is silence to all
    cues wherever it does not: what it has there leaked from others.
    """
    count, frames = len(sources), sources.shape[1] // frame
    if active is not None:
        rest = sources.shape[1] - frames * frame
        sources = sources * np.pad(np.repeat(active > 0.5, frame, 1), ((0, 0), (0, rest)))
    energy = np.square(sources[:, : frames * frame].reshape(count, frames, frame), dtype=np.float64).mean(2)
    energy = np.nan_to_num(energy)  # what is not a number is not sound
    smooth = _smoothed(energy)
    level = energy.sum(0)
    loudest = max(state.loudest, float(level.max(initial=0)))
    gate = max(loudest * 10 ** (-rules.gate_db / 10), TINY)
    sound, others = level > gate, smooth.sum(0) - smooth
    if active is None:
        alone = sound & (smooth > others * 10 ** (rules.lead_db / 10))
        said = smooth > max(gate, float(smooth.max(initial=0)) * 10 ** (-rules.trace_db / 10))
    else:
        said = sound & (active > 0.5)
        alone = said & (said.sum(0) == 1)
    return replace(state, loudest=loudest), Heard(sources, energy, sound, alone, said)


def align(rules: Rules, state: State, heard: Heard, hop: int) -> tuple[State, Array]:
    """The sources of a window, as the cues heard them, in the order of the tracks, `[S, T]`; the next window begins `hop` samples
    later."""
    scores = judged(rules, state, heard)
    order = decided(rules, state.order, scores)
    tracks = heard.sources[list(order)]
    elapsed = hop / max(heard.sources.shape[1], 1) * len(heard.sound)
    after = State(
        tail=tracks[:, hop:],
        order=order,
        loudest=state.loudest * 0.5 ** (elapsed / rules.forget),
        pieces=learned_pieces(rules, state.pieces, heard, order, state.windows),
        bonds=learned_bonds(rules, state.bonds, heard, order),
        windows=state.windows + 1,
        swaps=state.swaps + (bool(state.order) and order != state.order),
        margin=matching.margin(scores, order, _sounding(heard)),
    )
    return after, tracks


def judged(rules: Rules, state: State, heard: Heard) -> Scores:
    """How much speaks for each source being each track, `[S, S]`."""
    scores, count = rules.overlap * overlap_cue(rules, state.tail, heard), len(heard.sources)
    own = None if state.bonds is None else owned(rules, state.bonds)
    if state.pieces is not None and rules.voice:
        people = found(state.pieces, count, rules.alike, rules.least, rules.share)
        scores = scores + rules.voice * voice_cue(rules, people, heard)
        own = confirmed(rules, people, count)
    return np.asarray(np.nan_to_num(scores + rules.activity * activity_cue(rules, own, heard)))


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
