"""Who is known by voice: a few people, found and told apart while they speak.

Online clustering on the unit sphere. Each person is the sum of the unit vectors of windows in which they spoke alone. How a
window is judged (`Heard`) is another's business; here stands what follows from it. Only clean windows teach: a centroid takes
in nothing that is doubtful, mixed or faint. A voice like none of the known waits until enough such windows are alike, so that
a cough founds nobody; those that are not joined by others in time are forgotten. Two people who turn out to be one
become the one who spoke first; the other's slot is free again, and nobody else is renumbered.

The ideas are those of J. M. Coria et al., "Overlap-aware low-latency online speaker diarization based on end-to-end local
segmentation", 2021, arXiv:2109.06483 (update only where sure, found only where clearly new), and of T.-P. Pham et al. (waiting).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streaming.framing import Array

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Options:
    """When what is believed. Probabilities and cosines, 0 to 1; times in steps.

    Attributes:
        speech: of the window, the least speech that teaches anything.
        pure: how sure that it is one voice.
        known: how sure that it is this person's, for their centroid to learn from it.
        new: how sure that it is nobody's, to be kept as a piece of an unknown voice.
        pieces, alike: so many of these, so near to each other, make a person.
        patience: steps after which a piece is forgotten.
        same: centroids as near as that are of one person.
        most: windows after which a centroid forgets as fast as it learns.
    """

    speech: float = 0.5
    pure: float = 0.5
    known: float = 0.5
    new: float = 0.7
    pieces: int = 2
    alike: float = 0.35
    patience: int = 50
    same: float = 0.7
    most: int = 60


@dataclass(frozen=True)
class Heard:
    """One window: its unit vector `[D]`, how much of it is speech, how surely it is one voice, how surely whose, `[K]`."""

    voice: Array
    speech: float
    pure: float
    whose: Array


@dataclass(frozen=True)
class State:
    """Of one session.

    Attributes:
        sums: `[K, D]` of unit vectors; zeros where nobody is.
        near: `[K]`: sums of the cosines of the windows to the centroid when they came.
        counts: `[K]` windows in each sum.
        pieces: `[n, D]` of unknown voices; `ages` `[n]` in steps.
    """

    sums: Array
    near: Array
    counts: Counts
    pieces: Array
    ages: Counts

    @property
    def live(self) -> NDArray[np.bool_]:
        return self.counts > 0

    @property
    def centroids(self) -> Array:
        """Unit vectors `[K, D]`, zeros where nobody is."""
        return _unit(self.sums)

    @property
    def coherence(self) -> Array:
        """Mean cosine of the windows of each person to their centroid, `[K]`."""
        return np.asarray(self.near / np.maximum(self.counts, 1), np.float32)

    @property
    def bytes(self) -> int:
        """What it holds, without Python's share."""
        return sum(part.nbytes for part in (self.sums, self.near, self.counts, self.pieces, self.ages))


def start(speakers: int, width: int) -> State:
    """Nobody is known."""
    return State(
        np.zeros((speakers, width), np.float32),
        np.zeros(speakers, np.float32),
        np.zeros(speakers, np.int64),
        np.zeros((0, width), np.float32),
        np.zeros(0, np.int64),
    )


def observe(options: Options, state: State, heard: Heard) -> State:
    """Learn from one window: a step."""
    state = _older(options, state)
    if heard.speech < options.speech or heard.pure < options.pure:
        return state
    whose = np.where(state.live, heard.whose, 0)
    best = int(whose.argmax())
    if state.live.any() and whose[best] >= options.known:
        return _merged(options, _taught(options, state, best, heard.voice))
    nobody = float(np.prod(1 - whose))
    return _founded(options, state, heard.voice) if nobody >= options.new else state


def _older(options: Options, state: State) -> State:
    if not len(state.ages):
        return state
    ages = state.ages + 1
    keep = ages < options.patience
    return replace(state, pieces=state.pieces[keep], ages=ages[keep])


def _taught(options: Options, state: State, person: int, voice: Array) -> State:
    """The centroid with one window more, or one exchanged."""
    sums, near, counts = state.sums.copy(), state.near.copy(), state.counts.copy()
    if counts[person] >= options.most:
        keep = np.float32(1 - 1 / options.most)
        sums[person] *= keep
        near[person] *= keep
        counts[person] -= 1
    sums[person] += voice
    near[person] += _unit(sums[person]) @ voice
    counts[person] += 1
    return replace(state, sums=sums, near=near, counts=counts)


def _founded(options: Options, state: State, voice: Array) -> State:
    """The voice waits among the pieces, or is one too many of those alike: a person in the first free slot.

    The first voice of all is somebody at once.
    """
    alike = state.pieces @ voice >= options.alike
    enough = alike.sum() + 1 >= options.pieces or not state.live.any()
    if not enough:
        return replace(state, pieces=np.concatenate((state.pieces, voice[None])), ages=np.append(state.ages, 0))
    if state.live.all():
        return state
    slot = int(state.live.argmin())
    members = np.concatenate((state.pieces[alike], voice[None]))
    sums, near, counts = state.sums.copy(), state.near.copy(), state.counts.copy()
    sums[slot], counts[slot] = members.sum(0), len(members)
    near[slot] = (members @ _unit(sums[slot])).sum()
    rest = ~alike
    return replace(state, sums=sums, near=near, counts=counts, pieces=state.pieces[rest], ages=state.ages[rest])


def _merged(options: Options, state: State) -> State:
    """The two nearest people made one, if they are that near; the slot of who spoke first stays."""
    people = np.flatnonzero(state.live)
    if len(people) < 2:
        return state
    units = state.centroids[people]
    between = np.triu(units @ units.T, 1)
    first, second = np.unravel_index(int(between.argmax()), between.shape)
    if between[first, second] < options.same:
        return state
    keep, leave = people[first], people[second]
    sums, near, counts = state.sums.copy(), state.near.copy(), state.counts.copy()
    for part in (sums, near, counts):
        part[keep] += part[leave]
        part[leave] = 0
    return replace(state, sums=sums, near=near, counts=counts)


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), np.float32)
