"""What each person of a session sounds like, and which source sounds like whom.

While somebody speaks alone, pieces of the mixture go to that person's centroid; while people speak at once, what was
separated so far is compared with the centroids. This file gathers and remembers; the encoder is called by the owner, for
all sessions at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streaming import assign
from streaming.framing import Array

PIECE = 160  # frames of 10 ms that the encoder hears at once
LEAST = 40  # frames of an overlap that say something
MOST = 12  # pieces of a person, after which a piece counts as much as it does then
PAUSE = 50  # frames without an overlap after which the next one is another


@dataclass(frozen=True)
class State:
    """Of one session.

    Attributes:
        ahead: frames that were heard and are not told yet.
        alone: `[N]` of `[T]`: the sound of each person since the last piece.
        centroids: `[N, D]`, sums of unit vectors; `pieces` `[N]` of how many.
        together: `[S, T]`, the sources of the newest overlap, which ended `quiet` frames ago.
        evidence: of each overlap from its first frame (of the session) on: `[S, N]`, cosines, 0 for unknown.
    """

    ahead: int
    alone: tuple[Array, ...]
    centroids: Array
    pieces: NDArray[np.int64]
    together: Array
    quiet: int
    evidence: tuple[tuple[int, Array], ...]


@dataclass(frozen=True)
class Wanted:
    """Sound to be embedded: of a `person` alone, or of the sources of an overlap (`person` is -1)."""

    person: int
    sound: Array


def start(sources: int, people: int, width: int) -> State:
    none = np.zeros(0, np.float32)
    return State(
        0, (none,) * people, np.zeros((people, width), np.float32), np.zeros(people, np.int64),
        np.zeros((sources, 0), np.float32), PAUSE, (),
    )  # fmt: skip


def listen(state: State, frame: int, speaking: NDArray[np.bool_], sound: Array) -> tuple[State, list[Wanted]]:
    """Hear the frames that are known (`assign.known`, the first is `frame` of the session) from where the last call ended.

    Returns:
        The next state, and what is to be embedded for `settle`.
    """
    fresh, samples = speaking[state.ahead :], sound[:, state.ahead * assign.FRAME :]
    blocks = samples.reshape(len(sound), len(fresh), assign.FRAME)
    count = fresh.sum(1)
    frame, state = frame + state.ahead, replace(state, ahead=len(speaking))
    state, wanted = _alone(state, fresh & (count == 1)[:, None], blocks[0])
    if len(blocks) < 3:
        return state, wanted
    state = _together(state, frame, count > 1, blocks[1:])
    if state.quiet < len(fresh) and state.together.shape[1] >= LEAST * assign.FRAME:
        wanted += [Wanted(-1, source) for source in state.together]
    return state, wanted


def told(state: State, before: int, now: int) -> State:
    """The next frame to be told was `before` and is `now`: what is older than the overlap that is there may go."""
    past = [at for at, _ in state.evidence if at <= now]
    kept = tuple(one for one in state.evidence if not past or one[0] >= past[-1])
    return replace(state, ahead=state.ahead - (now - before), evidence=kept)


def _alone(state: State, lone: NDArray[np.bool_], mixture: Array) -> tuple[State, list[Wanted]]:
    alone, wanted = list(state.alone), []
    for person in np.flatnonzero(lone.any(0)):
        heard = np.concatenate((alone[person], mixture[lone[:, person]].ravel()))
        if len(heard) >= PIECE * assign.FRAME:
            wanted.append(Wanted(int(person), heard[: PIECE * assign.FRAME]))
            heard = heard[:0]
        alone[person] = heard
    return replace(state, alone=tuple(alone)), wanted


def _together(state: State, frame: int, overlapped: NDArray[np.bool_], sources: Array) -> State:
    """Overlaps that are near one another are one."""
    for index in np.flatnonzero(overlapped):
        gap = state.quiet + int(index)
        if gap >= PAUSE:
            unknown = np.zeros((len(sources), len(state.pieces)), np.float32)
            evidence = (*state.evidence, (frame + int(index), unknown))
            state = replace(state, together=state.together[:, :0], evidence=evidence)
        together = np.concatenate((state.together, sources[:, index]), 1)[:, -PIECE * assign.FRAME :]
        state = replace(state, together=together, quiet=-int(index) - 1)
    return replace(state, quiet=state.quiet + len(overlapped))


def settle(state: State, wanted: list[Wanted], voices: Array) -> State:
    """Take the unit vectors `[len(wanted), D]` of what was asked for."""
    centroids, pieces = state.centroids.copy(), state.pieces.copy()
    of_sources = [voice for one, voice in zip(wanted, voices, strict=True) if one.person < 0]
    for one, voice in zip(wanted, voices, strict=True):
        if one.person >= 0:
            keep = min(1.0, (MOST - 1) / max(pieces[one.person], 1))
            centroids[one.person] = centroids[one.person] * keep + voice
            pieces[one.person] += 1
    state = replace(state, centroids=centroids, pieces=pieces)
    if not of_sources:
        return state
    length = np.linalg.norm(centroids, axis=1)
    evidence = np.stack(of_sources) @ (centroids / np.maximum(length, 1e-9)[:, None]).T
    evidence[:, pieces == 0] = evidence[:, pieces > 0].mean() if (pieces > 0).any() else 0
    return replace(state, evidence=(*state.evidence[:-1], (state.evidence[-1][0], evidence.astype(np.float32))))
