"""What tells which source of a window is which track: three cues, each a matrix `[S, S]` of tracks by sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming import matching
from streaming.framing import Array
from streaming.matching import Scores

Flags = NDArray[np.bool_]
TINY = 1e-20


@dataclass(frozen=True)
class Rules:
    """How much each cue counts, and from where. Frames are of 10 ms.

    Attributes:
        overlap, voice, activity: weights; 0 leaves a cue out.
        stay: by how much another order must be better than the previous one.
        bound_db: SI-SDR counts within plus and minus this.
        gate_db: frames this far below the loudest heard so far are silence.
        lead_db: a source is alone where it is this much louder than all others.
        enough: frames in which both windows must have sound for the overlap to count in full.
        embed: frames that a source must be alone for its embedding to mean something.
        learn: and for it to be learned from.
        alike, spread: cosine at which a voice is as likely the same as another, and the distance from there that is certain.
        doubt: how much lower that cosine is for the least that is embedded.
        sure: distance from it at which something is learned.
        settle: frames after which a voice, or a person of the diarizer, counts in full.
        most: voices kept.
        forget: frames in which the loudest level falls by half.
        keep, limit: share of what was believed that goes on to the next window, and the most that is believed.
        trust: nothing is learned from a track whose sound is believed another's by more than this.
    """

    overlap: float = 1.0
    voice: float = 1.0
    activity: float = 1.0
    stay: float = 0.1
    bound_db: float = 20.0
    gate_db: float = 40.0
    lead_db: float = 6.0
    enough: int = 25
    embed: int = 30
    learn: int = 80
    alike: float = 0.66
    spread: float = 0.12
    doubt: float = 0.07
    sure: float = 0.04
    settle: int = 200
    most: int = 8
    forget: int = 3000
    keep: float = 0.9
    limit: float = 3.0
    trust: float = 0.5


@dataclass(frozen=True)
class Voices:
    """Voices heard: `sums` `[K, D]` of embeddings, each times its frames; `frames` `[K]`; on each track (`bonds` `[S, K]`)."""

    sums: Array
    frames: Array
    bonds: Array


@dataclass(frozen=True)
class Heard:
    """One window of separated sources.

    Attributes:
        sources: `[S, T]`, as the separator gave them.
        energy: `[S, F]`: mean squares by frames of 10 ms.
        sound: `[F]`: where there is any.
        alone: `[S, F]`: where one source has all of it.
        embeddings: `[S, D]` unit vectors of what is said alone, rows of zeros where that is too little; or None.
        probs: `[F', N]` of the first frames, as far as the diarizer has told; or None.
    """

    sources: Array
    energy: Scores
    sound: Flags
    alone: Flags
    embeddings: Array | None = None
    probs: Array | None = None


def overlap_cue(rules: Rules, tail: Array | None, heard: Heard) -> Scores:
    """`[S, S]`, 0 to 1: SI-SDR within the bounds, times both levels relative to the loudest, times how much there is."""
    count = len(heard.sources)
    if tail is None or not tail.shape[1]:
        return np.zeros((count, count))
    now = heard.sources[:, : tail.shape[1]].astype(np.float64)
    was = tail.astype(np.float64)
    both = was @ now.T
    of_was, of_now = np.square(was).sum(1), np.square(now).sum(1)
    common = np.clip(both, 0, None) ** 2 / (np.outer(of_was, of_now) + TINY)
    ratio = 10 * np.log10((common + TINY) / np.clip(1 - common, 1e-12, None))
    fits = (np.clip(ratio, -rules.bound_db, rules.bound_db) + rules.bound_db) / (2 * rules.bound_db)
    level = np.sqrt(np.outer(of_was / (of_was.max() + TINY), of_now / (of_now.max() + TINY)))
    frames = int(heard.sound[: len(heard.sound) * tail.shape[1] // heard.sources.shape[1]].sum())
    return np.asarray(fits * level * min(1.0, frames / rules.enough))


def voice_cue(rules: Rules, voices: Voices | None, heard: Heard) -> Scores:
    """`[S, S]`, -1 to 1: the most alike voice of each track, as certain as that voice is known."""
    count = len(heard.sources)
    scores = np.zeros((count, count))
    if voices is None or heard.embeddings is None:
        return scores
    alike = unit(voices.sums) @ heard.embeddings.T  # [K, S]
    certain = np.clip((alike - _likely(rules, heard)) / rules.spread, -1, 1) * heard.embeddings.any(1)
    certain = certain * np.minimum(1, voices.frames / rules.settle)[:, None]
    track = owners(voices.bonds)
    for own in set(track[track >= 0].tolist()):
        scores[own] = certain[track == own].max(0)
    return scores


def owners(bonds: Array) -> NDArray[np.int64]:
    """The track of each person `[N]`, given for how long each was on each track `[S, N]`; -1 of who was on none.

    Two people have one track only where there are more people than tracks: so even from mixed evidence the assignment is
    one-to-one, and what follows from it makes the evidence clearer.
    """
    tracks, people = bonds.shape
    known = np.flatnonzero(bonds.sum(0) > 0)
    track = np.full(people, -1)
    track[known] = bonds[:, known].argmax(0)
    size = max(tracks, len(known))
    square = np.zeros((size, size))
    square[:tracks, : len(known)] = bonds[:, known]
    for row, column in enumerate(matching.best(square)[:tracks]):
        if column < len(known):
            track[known[column]] = row
    return track


def _likely(rules: Rules, heard: Heard) -> Scores:
    """`[S]`: the cosine at which it is as likely the same voice as another; what was heard for less is less like itself."""
    short = np.clip(rules.learn - heard.alone.sum(1), 0, rules.learn - rules.embed)
    return np.asarray(rules.alike - rules.doubt * short / (rules.learn - rules.embed))


def activity_cue(rules: Rules, bonds: Array | None, heard: Heard) -> Scores:
    """`[S, S]`, -1 to 1: the energy that a source has while a track's people speak, less what it has while others do."""
    count = len(heard.sources)
    if bonds is None or heard.probs is None or not len(heard.probs):
        return np.zeros((count, count))
    people, share, sound = together(heard)
    own = np.where(owners(bonds) == np.arange(count)[:, None], 1, -1)  # [S, N]
    sure = np.minimum(1, bonds.sum(0) / rules.settle)
    frames = float((people.sum(1) * sound).sum())
    return np.asarray((own * sure) @ (people * sound[:, None]).T @ share / max(frames, 2.0 * rules.enough))


def together(heard: Heard) -> tuple[Scores, Scores, Scores]:
    """Who speaks `[F, N]`, shares of energy `[F, S]` and where there is sound `[F]`, as far as the diarizer has told."""
    assert heard.probs is not None
    known = min(len(heard.probs), len(heard.sound))
    people = heard.probs[:known].astype(np.float64)
    people = people / np.maximum(1, people.sum(1, keepdims=True))
    energy = heard.energy[:, :known].T
    return people, energy / (energy.sum(1, keepdims=True) + TINY), heard.sound[:known].astype(np.float64)


def unit(rows: Array) -> Array:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12), np.float32)
