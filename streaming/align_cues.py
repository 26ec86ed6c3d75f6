"""What tells which source of a window is which track: three cues, each a matrix `[S, S]` of tracks by sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming import matching
from streaming.align_people import People
from streaming.framing import Array
from streaming.matching import Scores

Flags = NDArray[np.bool_]
TINY = 1e-20


@dataclass(frozen=True)
class Rules:
    """How much each cue counts, and from where. Frames are of 10 ms.

    The cosines are those of embeddings about their common mean (`models.voiceprint`): pieces of two seconds of one voice have
    0.5, of two voices 0.1.

    Attributes:
        overlap, voice, activity: weights; 0 leaves a cue out.
        stay: by how much another order must be better than the previous one.
        bound_db: SI-SDR counts within plus and minus this.
        gate_db: frames this far below the loudest heard so far are silence.
        lead_db: a source is alone where it is this much louder than all others.
        trace_db: what a source says this far below the loudest of the window is a trace of another.
        enough: frames in which both windows must have sound for the overlap to count in full.
        embed: frames of a source for an embedding to mean something.
        learn: frames that it must be alone for its voice to be remembered.
        alike, spread: cosine at which a voice is as likely the same as another, and the distance from there that is certain.
        fresh: what speaks for a track that nobody has been on, as a cosine above `alike`.
        known: frames after which a voice counts in full.
        least, share: people heard for fewer frames, or for less than this share of the most heard one, are not believed in.
        settle: frames after which a person of the diarizer counts in full: spoken alone or, where there are voices, in pieces.
        most: pieces of voices remembered.
        forget: frames in which the loudest level falls by half.
    """

    overlap: float = 1.0
    voice: float = 6.0
    activity: float = 2.0
    stay: float = 0.05
    bound_db: float = 20.0
    gate_db: float = 40.0
    lead_db: float = 6.0
    trace_db: float = 25.0
    enough: int = 25
    embed: int = 30
    learn: int = 50
    alike: float = 0.27
    spread: float = 0.3
    fresh: float = 0.15
    known: int = 200
    least: int = 100
    share: float = 0.1
    settle: int = 200
    most: int = 60
    forget: int = 3000


@dataclass(frozen=True)
class Heard:
    """One window of separated sources.

    Attributes:
        sources: `[S, T]`, as the separator gave them, without what it says is none of theirs.
        energy: `[S, F]`: mean squares by frames of 10 ms.
        sound: `[F]`: where there is any.
        alone: `[S, F]`: where one source has all of it.
        said: `[S, F]`: where a source is more than the trace of another.
        embeddings: `[2, S, D]` unit vectors of what is said at all, and of what is said alone; zeros where too little; or None.
        probs: `[F', N]` of the first frames, as far as the diarizer has told; or None.
    """

    sources: Array
    energy: Scores
    sound: Flags
    alone: Flags
    said: Flags
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


def voice_cue(rules: Rules, people: People | None, heard: Heard) -> Scores:
    """`[S, S]`, -1 to 1: the most alike voice of each track, as certain as that voice is known, times the source's level."""
    count = len(heard.sources)
    if people is None or heard.embeddings is None:
        return np.zeros((count, count))
    told = unit(heard.embeddings.sum(0))  # what is said alone counts twice
    near = (people.voices @ told.T - rules.alike) * np.minimum(1, people.frames / rules.known)[:, None]
    scores = np.full((count, count), rules.fresh)
    for track in set(people.tracks.tolist()):
        scores[track] = near[people.tracks == track].max(0)
    level = heard.energy.sum(1)
    level = np.sqrt(level / (level.max(initial=0) + TINY)) * told.any(1)
    return np.asarray(np.clip(scores / rules.spread, -1, 1) * level)


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


def owned(rules: Rules, bonds: Array) -> Scores:
    """How surely each person of the diarizer has each track, -1 to 1, `[S, N]`: by the energy, where nothing else is known."""
    own = np.where(owners(bonds) == np.arange(len(bonds))[:, None], 1, -1)
    return np.asarray(own * np.minimum(1, bonds.sum(0) / rules.settle))


def confirmed(rules: Rules, people: People, tracks: int) -> Scores:
    """As `owned`, by voices: a person of the diarizer has the tracks of those whose pieces were theirs.

    Where a diarizer takes two voices for one, or what it said first was wrong, its person has no track, and it says nothing.
    """
    bonds = np.zeros((tracks, people.spoke.shape[1]))
    np.add.at(bonds, people.tracks, people.spoke)
    frames = bonds.sum(0)
    share = bonds / np.maximum(frames, TINY)
    return np.asarray((share * tracks - 1) / (tracks - 1) * np.minimum(1, frames / rules.settle))


def activity_cue(rules: Rules, own: Scores | None, heard: Heard) -> Scores:
    """`[S, S]`, -1 to 1: the energy that a source has while a track's people speak, less what it has while others do.

    Args:
        own: `[S, N]`, of `owned` or `confirmed`.
    """
    count = len(heard.sources)
    if own is None or heard.probs is None or not len(heard.probs):
        return np.zeros((count, count))
    people, share, sound = together(heard)
    frames = float((people.sum(1) * sound).sum())
    return np.asarray(own @ (people * sound[:, None]).T @ share / max(frames, 2.0 * rules.enough))


def together(heard: Heard) -> tuple[Scores, Scores, Scores]:
    """Who speaks `[F, N]`, shares of energy `[F, S]` and where there is sound `[F]`, as far as the diarizer has told."""
    assert heard.probs is not None
    known = min(len(heard.probs), len(heard.sound))
    people = heard.probs[:known].astype(np.float64)
    people = people / np.maximum(1, people.sum(1, keepdims=True))
    energy = heard.energy[:, :known].T
    return people, energy / (energy.sum(1, keepdims=True) + TINY), heard.sound[:known].astype(np.float64)


def alone(heard: Heard) -> Scores:
    """Who speaks where one person does and there is sound, `[F, N]`."""
    people, _, sound = together(heard)
    return np.asarray(people * (sound * (people.max(1) > 0.8))[:, None])


def unit(rows: Array) -> Array:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12), np.float32)
