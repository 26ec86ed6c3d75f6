"""Who speaks besides the one who is heard best: what a separator made of a mixture tells of overlap.

A diarizer that hears voices in windows of a second or more knows who speaks, but hardly whether another does at the same
time. A separator of two outputs shows just that: of one voice the second output has a trace, of two voices both have one.
So the second most probable person speaks where three things together say so: their own probability, the level of the
second output below the first, and that it is loud, for what is left in pauses is on all outputs alike. The weights are a
logistic regression on the frames of nine simulated meetings of training speakers, with `speech` as the separator and
`voices` as the diarizer, its constant set on six of other people (`python -m models.training.score_diarizer --separator
speech` shows what it brings).

Frames are of 10 ms at 16 kHz: frame n of the outputs is samples 160 n to 160 n + 159.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streaming.framing import Array

Levels = NDArray[np.float64]

FRAME = 160
AROUND = 15  # frames on either side over which levels are averaged
FORGET = 3000  # frames in which the loudest falls by half
TINY = 1e-12
SECOND = np.array([1.0, 0.98], np.float32)  # whoever was the most probable stays so


@dataclass(frozen=True)
class Options:
    """Weights of the log odds, per dB and per unit of log odds, and what must be so at all.

    Attributes:
        below: of the level of the second output over that of the first, dB, from -30 on.
        level: of that of the first over the loudest so far, dB, from -40 on.
        own: of the log odds of the second most probable person.
        bias: the constant.
        first: the least probability of the most probable person.
    """

    below: float = 0.103
    level: float = 0.221
    own: float = 0.492
    bias: float = 2.92
    first: float = 0.3


@dataclass(frozen=True)
class State:
    """Of one session. Nothing is known of outputs before the first sample, or of those of a separator that is too late.

    Attributes:
        samples: `[S, T]` heard that are not a frame yet.
        energy: `[S, n]`: mean squares of the last frames, of which `frame` is the first.
        told: the first frame that no probabilities were given for yet.
        loudest: mean square of the loudest frame, forgetting.
    """

    samples: Array
    energy: Array
    frame: int = 0
    told: int = 0
    loudest: float = 0.0


def start(sources: int) -> State:
    return State(np.zeros((sources, 0), np.float32), np.zeros((sources, 0), np.float32))


def hear(state: State, sources: Array) -> State:
    """Take what is new of the outputs, `[S, T]`, that follow one another from sample 0."""
    samples = np.concatenate((state.samples, sources), 1)
    count = samples.shape[1] // FRAME
    fresh = np.square(samples[:, : count * FRAME].reshape(len(samples), count, FRAME)).mean(2)
    return replace(state, samples=samples[:, count * FRAME :], energy=np.concatenate((state.energy, fresh), 1))


def tell(options: Options, state: State, probs: Array) -> tuple[State, Array]:
    """The next frames' probabilities `[F, N]` with those of a second person where the outputs speak for one.

    Frames whose surroundings are not heard yet stay as they are: with a separator that is later than the diarizer, all do.
    """
    count = len(probs)
    here = np.arange(state.told, state.told + count)
    known = here + AROUND < state.frame + state.energy.shape[1]
    loudest, out = state.loudest, probs
    if known.any() and min(len(state.energy), probs.shape[1]) > 1:
        levels = _around(state, here[known])
        loudest, out = _raised(options, loudest, levels, probs, int(known.sum()))
    after = state.told + count
    drop = min(max(after - AROUND - state.frame, 0), state.energy.shape[1])
    return replace(state, energy=state.energy[:, drop:], frame=state.frame + drop, told=after, loudest=loudest), out


def _around(state: State, frames: NDArray[np.int64]) -> Levels:
    """Mean squares `[S, F]` about these frames; before the first there is silence."""
    first = int(frames[0]) - AROUND - state.frame
    energy = np.pad(state.energy, ((0, 0), (max(0, -first), 0)))[:, max(0, first) :]
    width = 2 * AROUND + 1
    return np.asarray(np.lib.stride_tricks.sliding_window_view(energy, width, 1)[:, : len(frames)].mean(2), np.float64)


def _raised(options: Options, loudest: float, levels: Levels, probs: Array, count: int) -> tuple[float, Array]:
    """The loudest by now, and the probabilities, of which the first `count` are judged."""
    second, first = np.sort(levels, axis=0)[-2:]
    peaks = np.empty(count)
    for n, level in enumerate(first):
        loudest = max(loudest * 0.5 ** (1 / FORGET), float(level))
        peaks[n] = loudest
    judged = probs[:count]
    people = np.argsort(-judged, axis=1, kind="stable")[:, :2]
    best, other = np.take_along_axis(judged, people, 1).T
    odds = (
        options.bias
        + options.below * np.maximum(_db(second, first), -30)
        + options.level * np.maximum(_db(first, peaks), -40)
    )
    sure = np.clip(other.astype(np.float64), 1e-3, 1 - 1e-3)
    both = 1 / (1 + np.exp(-(odds + options.own * np.log(sure / (1 - sure)))))
    both = np.where((best > options.first) & (both > 0.5), both, 0)[:, None] * SECOND
    out = probs.copy()
    np.put_along_axis(out[:count], people, np.maximum(np.take_along_axis(judged, people, 1), both), 1)
    return loudest, out


def _db(level: Levels, over: Levels) -> Levels:
    return np.asarray(10 * np.log10((level + TINY) / (over + TINY)), np.float64)
