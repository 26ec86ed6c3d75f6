"""Who has been heard on which track, as far as voices tell: pieces of one voice, gathered into people anew at each window.

A piece is what an output said alone in one window, as an embedding. A centroid that learns piece by piece cannot take back
what it learned wrongly in the first seconds of a session, when one voice was taken for two, or two for one. So the pieces
themselves are kept, some dozens, and people are found in all of them each time: average linkage, cut where two pieces are
as likely of one voice as of two. Each person has the track that most of their pieces were on, but two who spoke within one
window on two outputs should have two.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from streaming.framing import Array

Tracks = NDArray[np.int64]
MOST = 4096  # ways to give people tracks that are looked at


@dataclass(frozen=True)
class Pieces:
    """Remembered, oldest first: unit vectors `[n, D]`, frames that each was heard for, number of its window, its track, and in
    how many of the frames each person of a diarizer spoke alone, `[n, N]`."""

    voices: Array
    frames: Array
    windows: Tracks
    tracks: Tracks
    spoke: Array


@dataclass(frozen=True)
class People:
    """Found in the pieces: unit vectors `[K, D]`, frames that each was heard for, the track of each, and in how many of the
    frames it was who by the diarizer, `[K, N]`."""

    voices: Array
    frames: Array
    tracks: Tracks
    spoke: Array


def remembered(pieces: Pieces | None, more: Pieces, most: int) -> Pieces:
    """With the pieces of one more window, the last `most`."""
    if pieces is None:
        return more
    parts = [np.concatenate(pair)[-most:] for pair in zip(vars(pieces).values(), vars(more).values(), strict=True)]
    return Pieces(*parts)


def found(pieces: Pieces, tracks: int, alike: float, least: float, share: float) -> People:
    """The people in the pieces, each with one of so many tracks.

    Args:
        alike: cosine at which two pieces are as likely of one voice as of two.
        least, share: people of fewer frames, or of less than this share of the most heard person's, are left out: most of them
            are pieces of a voice that another spoke over. The most heard person is not.
    """
    group = groups(pieces.voices, alike)
    frames = np.bincount(group, pieces.frames)
    enough = min(max(least, share * frames.max()), frames.max())
    kept = [int(one) for one in np.argsort(-frames, kind="stable") if frames[one] >= enough]
    kept = kept[: max(1, int(np.log(MOST) / np.log(max(tracks, 2))))]
    number = np.full(len(frames), -1)
    number[kept] = np.arange(len(kept))
    whose = number[group]
    sums = np.stack([pieces.voices[whose == one].T @ pieces.frames[whose == one] for one in range(len(kept))])
    voices = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    owners = _owners(*_bonds(pieces, whose, tracks, len(kept)))
    spoke = np.stack([pieces.spoke[whose == one].sum(0) for one in range(len(kept))])
    return People(np.asarray(voices, np.float32), np.asarray(frames[kept], np.float32), owners, spoke)


def groups(voices: Array, alike: float) -> Tracks:
    """The number of the group of each piece, `[n, D] -> [n]`: average linkage (R. R. Sokal and C. D. Michener, 1958).

    The two groups whose pieces are most alike in the mean are joined, until none are more alike than `alike`. Sums of
    cosines add up as groups do, so that each step is one row and one column.
    """
    sums = (voices @ voices.T).astype(np.float64)
    count, number = np.ones(len(voices)), np.arange(len(voices))
    np.fill_diagonal(sums, -np.inf)
    while len(voices) > 1:
        mean = sums / np.outer(count, count)
        one, other = divmod(int(mean.argmax()), len(mean))
        if not mean[one, other] >= alike:
            break
        sums[one] += sums[other]
        sums[:, one] = sums[one]
        sums[other], sums[:, other], sums[one, one] = -np.inf, -np.inf, -np.inf
        count[one] += count[other]
        number[number == other] = one
    return np.asarray(np.unique(number, return_inverse=True)[1], np.int64)


def _bonds(pieces: Pieces, whose: Tracks, tracks: int, people: int) -> tuple[Array, Array]:
    """Frames of each person on each track `[S, K]`, and of each two within one window on two tracks `[K, K]`."""
    on, apart = np.zeros((tracks, people), np.float32), np.zeros((people, people), np.float32)
    known = whose >= 0
    np.add.at(on, (pieces.tracks[known], whose[known]), pieces.frames[known])
    for window in np.unique(pieces.windows[known]):
        here = np.flatnonzero(known & (pieces.windows == window))
        for a, b in product(here, here):
            if a < b and whose[a] != whose[b]:
                apart[whose[a], whose[b]] += min(pieces.frames[a], pieces.frames[b])
    return on, apart + apart.T


def _owners(on: Array, apart: Array) -> Tracks:
    """The track of each person, `[K]`: the most agreement with what was, the least of people who met on one track.

    Two people have one track only where there are more people than tracks.
    """
    tracks, people = on.shape
    ways = np.array(list(product(range(tracks), repeat=people)))
    same = ways[:, :, None] == ways[:, None]
    agreed = on[ways, np.arange(people)].sum(1) - (same * apart).sum((1, 2)) / 2
    if people <= tracks:
        alone = (same & ~np.eye(people, dtype=bool)).any((1, 2))
        agreed = np.where(alone, -np.inf, agreed)
    return np.asarray(ways[int(agreed.argmax())], np.int64)
