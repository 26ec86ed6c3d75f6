"""What one session of `voices_diarizer` holds between two calls, and what of it is due when.

Frames are of 10 ms, and a chunk is 40 of them. Segment n is the two seconds (frames 0 to 199) from which chunk n is told: its
frames 100 to 139, or 140 to 179 where the profile looks ahead less than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from models import silero
from models.diarizer import FRAME, STEP, Profile
from models.voices_network import FIRST, LAST, SEGMENT
from streaming import clusters
from streaming.framing import Array

CHUNK = 5  # frames of 80 ms; the embeddings' hop
HOP = CHUNK * STEP // FRAME  # the same in frames of 10 ms
NEAR, FAR = 3, 8  # least right context; from here on a chunk is in the middle of what is heard


@dataclass(frozen=True)
class Judged:
    """A chunk that may be told, of ten steps of 40 ms.

    Attributes:
        hidden: `[10, .]`, of `voices_network.Sounds`.
        speech: `[10]`, the probability that anybody speaks; 0 where Silero hears nothing near.
        views: `[8, 256]`, of its segment.
    """

    hidden: Tensor
    speech: Tensor
    views: Tensor


@dataclass(frozen=True)
class State:
    """One session between two calls.

    Attributes:
        profile: its parameters.
        heard: samples in all.
        steps: segments heard in all.
        pcm: samples from 200 before the middle of the first frame that is not in `frames` yet; `held` in all.
        vad: Silero's state; `speech` are its last probabilities, of 512 samples each.
        frames: `[200, 41]`, the last of `Mel`.
        views: `[4, 256]`, of the segment before.
        people: who is known.
        waiting: chunks that are judged again before they are told.
    """

    profile: Profile
    heard: int
    steps: int
    pcm: tuple[Array, ...]
    held: int
    vad: silero.Waiting
    speech: Array
    frames: Tensor
    views: Tensor
    people: clusters.State
    waiting: tuple[Judged, ...]

    @property
    def bytes(self) -> int:
        """What it holds, without Python's share."""
        tensors = [self.frames, self.views, *self.vad.state]
        tensors += [part for one in self.waiting for part in (one.hidden, one.speech, one.views)]
        arrays = self.held + len(self.speech) + len(self.vad.pcm)
        return 4 * (sum(part.numel() for part in tensors) + arrays) + self.people.bytes

    @property
    def due(self) -> bool:
        """Whether enough was heard for the next segment."""
        ahead = min(self.profile.chunk_right_context, FAR) + CHUNK
        return self.heard >= (self.steps * CHUNK + ahead) * STEP + 40

    @property
    def chunk(self) -> slice:
        """Which of the steps `FIRST` to `LAST` of a segment are its chunk."""
        half = (LAST - FIRST) // 2
        return slice(0, half) if self._middle else slice(half, None)

    @property
    def needed(self) -> int:
        """How many of Silero's last probabilities this and later segments look at."""
        first = max(0, self.end() - SEGMENT) * FRAME // silero.STEP
        return max(1, self.heard // silero.STEP - first)

    def end(self, more: int = 0) -> int:
        """The frame with which the segment number `steps + more` ends; before the first, 0."""
        if self.steps + more < 0:
            return 0
        return (self.steps + more) * HOP + (SEGMENT // 2 if self._middle else SEGMENT // 2 - HOP)

    def spoken(self) -> Array:
        """Silero's probability at each frame of the segment, `[200]`; nothing before the beginning."""
        frames = np.arange(self.end() - SEGMENT, self.end())
        first = self.heard // silero.STEP - len(self.speech)
        found = self.speech[np.maximum((frames * FRAME + FRAME // 2) // silero.STEP - first, 0)]
        return np.where(frames < 0, np.float32(0), found)

    @property
    def _middle(self) -> bool:
        return self.profile.chunk_right_context >= FAR


def check(profile: Profile) -> Profile:
    """The profile, if there is one such.

    Raises:
        ValueError: naming the parameter, what was given and what is possible.
    """
    right = profile.chunk_right_context
    if profile.chunk_len != CHUNK:
        raise ValueError(f"got chunk_len {profile.chunk_len!r}, this diarizer tells {CHUNK} frames of 80 ms at a time")
    if right != NEAR and right not in range(FAR, FAR + 20 * CHUNK + 1, CHUNK):
        raise ValueError(
            f"got chunk_right_context {right!r}, expected {NEAR} or {FAR} and any multiple of {CHUNK} more up to 108"
        )
    return profile


def judgings(profile: Profile) -> int:
    """How many segments a chunk waits for."""
    return max(0, (profile.chunk_right_context - FAR) // CHUNK)
