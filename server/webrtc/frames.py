"""PCM as it comes, cut into the frames of packets: pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from streaming.framing import Array


@dataclass(frozen=True)
class Frame:
    """What the packet from `start` of the timeline is encoded from: `pcm` `[S, C, lookahead + frame]`, whose first `lookahead`
    samples (from `start` on) prime a new encoder and whose others are encoded; all there since `ready`."""

    start: int
    ready: int
    pcm: Array


class Frames:
    """A queue of samples, of which every packet's are handed out `lookahead` later than they are said by (`opus.py`)."""

    def __init__(self, outputs: int, channels: int, frame: int, lookahead: int) -> None:
        self._frame, self._lookahead = frame, lookahead
        self._shape = (outputs, channels)
        self._parts: deque[Array] = deque()
        self._arrivals: deque[tuple[int, int]] = deque()  # (end, when)
        self._ready = 0  # when the head's arrival was, for what arrived with it
        self.start = self.end = 0  # of what is held, on the timeline

    def begin(self, start: int) -> None:
        """The timeline begins here."""
        self.start = self.end = start

    def put(self, pcm: Array, now: int) -> None:
        """`[S, C, T]`."""
        self._parts.append(pcm)
        self.end += pcm.shape[2]
        self._arrivals.append((self.end, now))

    @property
    def held(self) -> int:
        """Whole frames."""
        return max((self.end - self.start - self._lookahead) // self._frame, 0)

    def ready(self) -> int:
        """When the first frame became whole; there must be one."""
        while self._arrivals[0][0] < self.start + self._frame + self._lookahead:
            self._arrivals.popleft()
        return self._arrivals[0][1]

    def take(self) -> Frame:
        """The next frame; there must be one."""
        frame = Frame(self.start, self.ready(), self._head(self._frame + self._lookahead))
        self._drop(self._frame)
        return frame

    def skip(self, frames: int) -> None:
        """So many are not wanted."""
        self._drop(frames * self._frame)

    def pad(self) -> int:
        """Samples of silence that complete the last frame."""
        said = self.end - self.start
        return -(-said // self._frame) * self._frame + self._lookahead - said if said else 0

    def _head(self, samples: int) -> Array:
        if self._parts[0].shape[2] < samples:
            parts, have = [], 0
            while have < samples:
                parts.append(self._parts.popleft())
                have += parts[-1].shape[2]
            self._parts.appendleft(np.concatenate(parts, axis=2))
        return self._parts[0][:, :, :samples]

    def _drop(self, samples: int) -> None:
        self.start += samples
        while samples >= (have := self._parts[0].shape[2] if self._parts else samples + 1):
            self._parts.popleft()
            samples -= have
        if samples:
            self._parts[0] = self._parts[0][:, :, samples:]
