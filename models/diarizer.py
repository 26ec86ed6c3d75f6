"""The contract of a live diarizer: who speaks when, told while they speak.

A diarizer is given the next samples of each of B sessions and each session's own state, and gives back the probabilities
that have become known and the next states. Unlike windows of a separator, packets may be of any length and sessions may be
at any point, with any profile: a session that has nothing new to tell gives an array of no frames.

The laws (`tests/test_sortformer.py`):

- the same samples in other packets give the same probabilities;
- a session does not depend on those it shares a call with;
- frame n (10 ms around sample 160 n) is told at the latest when `Profile.latency` more samples have come;
- all that `run` told and what `finish` tells are together one frame for each 160 samples;
- a state is a value: never changed in place once returned, so that a repeated or a cancelled call does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from streaming.framing import Array

State = Any
FRAME = 160  # samples between two probabilities
STEP = 8 * FRAME  # samples of one frame of the network, in which the parameters below are counted


@dataclass(frozen=True)
class Profile:
    """How far a session looks ahead and how much it remembers, in frames of 80 ms, under NeMo's names.

    Attributes:
        chunk_len: frames told at a time.
        chunk_right_context: frames that must have come after them.
        fifo_len: recent frames, heard again at each step.
        spkcache_update_period: how many of them go to the cache at once when there are too many.
        spkcache_len: frames kept of all speakers.
        chunk_left_context: frames before the chunk that are heard a second time.
    """

    chunk_len: int
    chunk_right_context: int
    fifo_len: int
    spkcache_update_period: int
    spkcache_len: int
    chunk_left_context: int = 0

    @property
    def latency(self) -> int:
        """Samples from the middle of the first frame of a chunk to the last sample that the chunk waits for.

        The last of the frames of 10 ms has its middle 160 samples before the end of the chunk's context, and its window
        reaches 200 samples beyond that.
        """
        return (self.chunk_len + self.chunk_right_context) * STEP + 40

    @property
    def latency_s(self) -> float:
        """The latency by which profiles are named, in seconds: chunk and context."""
        return (self.chunk_len + self.chunk_right_context) * STEP / 16000


@dataclass(frozen=True)
class Spec:
    """What a diarizer is.

    Attributes:
        name: as asked for by clients.
        speakers: the most that it tells apart; output k is the k-th to have spoken.
        profiles: by name; the first is the default.
        rate: Hz; the only rate that `run` accepts.
        frame: samples between two probabilities.
        licence: of the weights, as an SPDX identifier or a sentence.
        threads: torch threads that one `run` profits from (0: all of the machine).
        version: of the weights, a checksum; empty when unknown.
        size: of the weights in memory, in bytes.
    """

    name: str
    speakers: int
    profiles: Mapping[str, Profile]
    rate: int = 16000
    frame: int = FRAME
    licence: str = "unknown"
    threads: int = 1
    version: str = ""
    size: int = 0

    @property
    def frame_s(self) -> float:
        return self.frame / self.rate

    def profile(self, name: str | None) -> Profile:
        """A profile by name, or the first.

        Raises:
            ValueError: no such name.
        """
        chosen = next(iter(self.profiles)) if name is None else name
        if chosen not in self.profiles:
            raise ValueError(f"got profile {chosen!r}, expected one of {', '.join(self.profiles)}")
        return self.profiles[chosen]

    def check(self, pcm: Sequence[Array], states: Sequence[State]) -> None:
        """What `run` is given.

        Raises:
            ValueError: not as many arrays as states, or one that is not `[T]` float32 (the caller's mistake).
        """
        if len(pcm) != len(states):
            raise ValueError(f"got {len(pcm)} arrays of pcm, expected one for each of {len(states)} states")
        for one in pcm:
            if one.ndim != 1 or one.dtype != np.float32:
                raise ValueError(f"got pcm {one.shape} {one.dtype}, expected [T] float32 of {self.rate} Hz")


class Diarizer(Protocol):
    """A loaded model. Several threads may call it at once."""

    spec: Spec

    def start(self, profile: str | Profile | None = None) -> State:
        """The state before the first sample, with a profile by name, one of the caller's own, or the default.

        Raises:
            ValueError: no such name, or parameters that cannot be, naming them.
        """
        ...

    def run(self, pcm: Sequence[Array], states: Sequence[State]) -> tuple[list[Array], list[State]]:
        """Hear the next samples of B sessions.

        Shape:
            pcm: B arrays `[T_b]` float32, any length, none included. Never written to, never kept.
            states: B values, each from `start` or a previous `run`. Never changed in place.
            returns: B arrays of probabilities `[F_b, speakers]` float32, owned by the caller, and the B next states.
        """
        ...

    def finish(self, state: State) -> Array:
        """The probabilities of what was heard and not yet told, `[F, speakers]`, as if the audio ended here.

        The state stays valid: asked in the middle of a stream, this is a first guess at the frames to come.
        """
        ...

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        """The most that a state of this profile holds, in bytes."""
        ...
