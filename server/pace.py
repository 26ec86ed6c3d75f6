"""The clock of a live session: when each sample is due, and how far ahead of that a client may run."""

from __future__ import annotations

import asyncio
import time
from collections import deque

DRIFT = 0.98  # a client's clock may be 2 % fast before it counts as running ahead


class Pace:
    """What a client sends is due when it comes, but never faster than the clock goes.

    So a client that sends a minute at once is not owed that minute at once: its windows have the deadlines that they
    would have had if it had waited, and give way to everybody who is on time (as in the constant bandwidth server of
    Abeni and Buttazzo, 1998). Beyond `ahead` seconds it is not read until the clock has caught up.
    """

    def __init__(self, rate: int, ahead: float, owed: int = 0) -> None:
        """`owed`: samples that are due already, as when a stream is replayed."""
        self._rate, self._ahead, self._owed = rate, ahead, owed
        self._due = time.monotonic()

    async def hear(self, samples: int) -> float:
        """Takes so many samples more; when they are due, s of the monotonic clock. Waits while they are far ahead."""
        if (early := self._due - time.monotonic() - self._ahead) > 0:
            await asyncio.sleep(early)
        owed = min(samples, self._owed)
        self._owed -= owed
        self._due = max(self._due + (samples - owed) / self._rate * DRIFT, time.monotonic())
        return self._due


class Budget:
    """At most `most` messages a second, after a second's worth at once: what comes faster is read later."""

    def __init__(self, most: float) -> None:
        self._each, self._free_at = 1 / most, 0.0

    async def message(self) -> None:
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1) + self._each
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Arrivals:
    """Which samples were due when: as far back as they have not been told."""

    def __init__(self) -> None:
        self._packets: deque[tuple[int, float]] = deque()  # timeline index of the end, due

    def heard(self, end: int, due: float) -> None:
        """A packet whose samples end before `end`."""
        self._packets.append((end, due))

    def of(self, sample: int) -> float | None:
        """When this sample was due; the newest, if it has not been heard; None if it is forgotten and all others too."""
        for end, due in self._packets:
            if end > sample:
                return due
        return self._packets[-1][1] if self._packets else None

    def told(self, end: int) -> float | None:
        """Forgets the packets that are told up to here; when the newest of them was due."""
        newest = None
        while self._packets and self._packets[0][0] <= end:
            newest = self._packets.popleft()[1]
        return newest
