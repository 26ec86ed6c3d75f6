"""How late things come: the least delay of the last moments, and how far above it the others lie.

Everything is in samples at 48 kHz: `now` of our clock, a delay as `now` minus the position on a timeline. The two clocks have
no common zero and may drift; only differences mean something, and a sliding window forgets the drift.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

MOST = 2000  # delays that are kept: a flood costs no more


class Delays:
    """Those of the last `window` samples of time, in their order of arrival and sorted."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._came: deque[tuple[int, int]] = deque()
        self._sorted: list[int] = []

    def add(self, now: int, delay: int) -> None:
        """The newest stays for good if nothing follows: after a pause the old ones are the best guess."""
        self._came.append((now, delay))
        insort(self._sorted, delay)
        while self._came[0][0] <= now - self._window or len(self._came) > MOST:
            del self._sorted[bisect_left(self._sorted, self._came.popleft()[1])]

    def __len__(self) -> int:
        return len(self._came)

    @property
    def least(self) -> int:
        return self._sorted[0] if self._sorted else 0

    def share(self, percent: int) -> int:
        """The delay that this percentage of them does not exceed."""
        return self._sorted[-(-len(self._sorted) * percent // 100) - 1] if self._sorted else 0

    def spread(self, percent: int) -> int:
        """By how much the delay of that percentile lies above the least."""
        return self._sorted[(len(self._sorted) - 1) * percent // 100] - self.least if self._sorted else 0
