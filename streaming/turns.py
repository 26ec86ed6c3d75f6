"""Who speaks when: probabilities of the frames of a diarizer to turns, told while they grow.

Each speaker goes through the chain of offline binarisation (G. Gelly, J.-L. Gauvain, "Minimum word error training of
RNN-based voice activity detection", 2015; so also in pyannote.audio and NeMo), one frame after another:

    hysteresis (onset, offset)  ->  padding  ->  gaps of at most `gap` frames closed  ->  what is shorter than
    `min_duration` left out

A turn is told from its first frame on, as tentative. It then grows until nothing that may still come can be joined to it;
then it is final, and changes no more, or, when it is too short, dropped. How the frames were split over calls makes no
difference to what is final or to its id.

Frames are integers; frame n is taken for the 10 ms from n on. Conversion to samples is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streaming import activity
from streaming.activity import Flags
from streaming.framing import Array

MOST = 8  # speakers, of any diarizer
CLEARLY = 0.1  # by so much another must be louder to take the floor from one who still speaks


@dataclass(frozen=True)
class Options:
    """How probabilities become turns; times are in frames.

    Attributes:
        onset, offset: a turn begins where the probability exceeds the one, and ends where it is below the other.
        pad_onset, pad_offset: that a turn begins earlier and ends later.
        gap: pauses of one speaker up to so long are part of the turn.
        min_duration: turns that are shorter are none.
        exclude_overlaps: each moment belongs to one speaker at most: of those who speak at once to the most probable one,
            as in pyannote's exclusive diarization. Who has the floor keeps it unless another is more probable by
            `CLEARLY`, for else two sure voices would share it by noise. A pause in which another spoke is never closed.

    Raises:
        ValueError: values that cannot be, naming them.
    """

    onset: float = 0.5
    offset: float = 0.4
    pad_onset: int = 0
    pad_offset: int = 0
    gap: int = 0
    min_duration: int = 0
    exclude_overlaps: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.offset <= self.onset < 1:
            raise ValueError(f"got onset {self.onset:g} and offset {self.offset:g}, expected 0 < offset <= onset < 1")
        for name in ("pad_onset", "pad_offset", "gap", "min_duration"):
            if getattr(self, name) < 0:
                raise ValueError(f"got {name} {getattr(self, name)}, expected no negative number of frames")

    @property
    def wait(self) -> int:
        """A turn is final when this many frames have come after its last one and its speaker was silent in them."""
        return self.pad_onset + self.pad_offset + self.gap + 1


@dataclass(frozen=True, order=True)
class Turn:
    """One person speaking from `start` to `end` (the first frame, or sample, that is no more part of it).

    `id` grows with the start. It follows from where the turn begins and whose it is, so that whoever hears the same
    stream again, after a lost connection, gives the same turn the same id.
    """

    id: int
    speaker: int
    start: int
    end: int
    final: bool


@dataclass(frozen=True)
class Events:
    """What frames have changed. `told`: frames that are known. `active`: who speaks in the last of them.

    `turns`: those that are new, have grown or are final now; `dropped`: ids of turns that were told and are too short.
    """

    told: int
    active: tuple[int, ...] = ()
    turns: tuple[Turn, ...] = ()
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Span:
    """A turn that is not final. `last`: one after its last frame, None while the speaker speaks. `said`: the end as it was
    told, None for not yet."""

    first: int
    start: int
    last: int | None = None
    said: int | None = None


@dataclass(frozen=True)
class State:
    """Between two calls.

    Attributes:
        frames: known so far.
        on: `[S]`: above hysteresis in the last frame.
        speaking: `[S]`: the same, or just the one who has the floor.
        open: by speaker.
        until: end of the latest turn that is final or dropped, of anybody.
    """

    frames: int
    on: Flags
    speaking: Flags
    open: tuple[Span | None, ...]
    until: int = 0

    @property
    def active(self) -> tuple[int, ...]:
        return tuple(int(one) for one in np.flatnonzero(self.speaking))


def start(options: Options, speakers: int, first: int = 0) -> State:
    """The state before frame `first`, for the first `speakers` columns of the probabilities.

    Raises:
        ValueError: not 1 to `MOST` speakers.
    """
    if not 1 <= speakers <= MOST:
        raise ValueError(f"got {speakers} speakers, expected 1 to {MOST}")
    nobody = np.zeros(speakers, bool)
    return State(first, nobody, nobody, (None,) * speakers, first)


def push(options: Options, state: State, probs: Array) -> tuple[State, Events]:
    """Take the next frames, `[F, >= S]`; F may be 0. NaN is silence."""
    if not len(probs):
        return state, Events(state.frames, state.active)
    probs = probs[:, : len(state.on)]
    on = activity.hysteresis(options.onset, options.offset, state.on, probs)
    speaking = activity.floor(CLEARLY, state.speaking, on, probs) if options.exclude_overlaps else on
    work = _Work(options, state)
    for row, speaker, begins in activity.changes(state.speaking, speaking):
        (work.begin if begins else work.fall_silent)(speaker, state.frames + row)
    work.settle_before(state.frames + len(probs))
    after, events = work.done(state.frames + len(probs))
    after = replace(after, on=on[-1], speaking=speaking[-1])
    return after, replace(events, active=after.active)


def finish(options: Options, state: State) -> tuple[State, Events]:
    """Nothing more comes: every turn is final, or dropped. A second time there is nothing left to tell."""
    work = _Work(options, state)
    for speaker in range(len(state.on)):
        work.fall_silent(speaker, state.frames)
        work.settle(speaker, state.frames)
    after, events = work.done(state.frames)
    nobody = np.zeros_like(state.on)
    return replace(after, on=nobody, speaking=nobody), events


def whole(options: Options, probs: Array) -> list[Turn]:
    """The final turns of a recording, `[F, S]`, in the order of their ids."""
    state, events = push(options, start(options, probs.shape[1]), probs)
    _, last = finish(options, state)
    return sorted(turn for turn in (*events.turns, *last.turns) if turn.final)


class _Work:
    """One call: spans that open and close, and what is to be told of it."""

    def __init__(self, options: Options, state: State) -> None:
        self.options, self.state = options, state
        self.open, self.until = list(state.open), state.until
        self.turns: list[Turn] = []
        self.dropped: list[int] = []

    def begin(self, speaker: int, frame: int) -> None:
        """A speaker is heard from this frame on: the turn before goes on, or a new one begins."""
        if self.options.exclude_overlaps:
            for other in range(len(self.open)):
                if other != speaker:
                    self.settle(other, frame)
        span = self.open[speaker]
        if span is not None and span.last is not None and frame < span.last + self.options.wait:
            self.open[speaker] = replace(span, last=None)
            return
        self.settle(speaker, frame)
        first = max(frame - self.options.pad_onset, self.until if self.options.exclude_overlaps else 0)
        self.open[speaker] = Span(frame, min(first, frame))

    def fall_silent(self, speaker: int, frame: int) -> None:
        span = self.open[speaker]
        if span is not None and span.last is None:
            self.open[speaker] = replace(span, last=frame)

    def settle_before(self, frames: int) -> None:
        """All to which nothing can be joined any more, when a speaker may begin in frame `frames` at the earliest."""
        for speaker, span in enumerate(self.open):
            if span is not None and span.last is not None and frames >= span.last + self.options.wait:
                self.settle(speaker, frames)

    def settle(self, speaker: int, now: int) -> None:
        """The turn as it stands is final, or none."""
        span = self.open[speaker]
        if span is None:
            return
        end = self._end(span, now)
        self.open[speaker], self.until = None, max(self.until, end)
        if end - span.start >= self.options.min_duration:
            self.turns.append(self._turn(speaker, span, end, final=True))
        elif span.said is not None:
            self.dropped.append(self._id(speaker, span))

    def done(self, frames: int) -> tuple[State, Events]:
        """The next state, and what there is to be told."""
        for speaker, span in enumerate(self.open):
            if span is not None and (end := self._end(span, frames)) != span.said:
                self.turns.append(self._turn(speaker, span, end, final=False))
                self.open[speaker] = replace(span, said=end)
        told = Events(frames, (), tuple(sorted(self.turns)), tuple(sorted(self.dropped)))
        return replace(self.state, frames=frames, open=tuple(self.open), until=self.until), told

    def _end(self, span: Span, now: int) -> int:
        """What is padded is not told before it has come."""
        return now if span.last is None else min(span.last + self.options.pad_offset, now)

    def _id(self, speaker: int, span: Span) -> int:
        return span.first * MOST + speaker

    def _turn(self, speaker: int, span: Span, end: int, final: bool) -> Turn:
        return Turn(self._id(speaker, span), speaker, span.start, end, final)
