"""The audio between what was read from a source and what has come back: bounded, and enough to begin again."""

from __future__ import annotations

import asyncio
from collections import deque

from rivulet_client.codec import Array


class Tape:
    """Holds the samples `[told, heard)` of one timeline. One task puts, one takes, one forgets.

    `put` waits while more than `room` samples are held, which bounds how far a sender runs ahead of the stems: in
    memory, in socket buffers, and in what has to be sent again after a break. A server holds back less than its
    `latency_samples`, so with `room` at least that, something always comes back to make room: no deadlock.
    """

    def __init__(self, room: int) -> None:
        self.told = self.heard = 0
        self.room = room
        self.error: Exception | None = None
        self._ended = False
        self._pieces: deque[tuple[int, Array]] = deque()
        self._changed = asyncio.Condition()

    async def put(self, pcm: Array) -> None:
        """Adds `[C, T]` at the end, when there is room."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.heard - self.told <= self.room)
            self._pieces.append((self.heard, pcm))
            self.heard += pcm.shape[1]
            self._changed.notify_all()

    async def end(self, error: Exception | None = None) -> None:
        """Nothing follows; `error` if the source broke."""
        async with self._changed:
            self._ended, self.error = True, error
            self._changed.notify_all()

    async def forget(self, told: int) -> None:
        """The stems of all samples before `told` have come back."""
        async with self._changed:
            self.told = told
            while self._pieces and self._pieces[0][0] + self._pieces[0][1].shape[1] <= told:
                self._pieces.popleft()
            self._changed.notify_all()

    async def take(self, position: int) -> Array | None:
        """Some samples `[C, T]` from `position` on, `told <= position <= heard`; None at the end.

        Raises:
            Exception: whatever the source raised.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self.heard > position or self._ended)
        if self.error is not None:
            raise self.error
        for start, pcm in self._pieces:
            if start <= position < start + pcm.shape[1]:
                return pcm[:, position - start :]
        return None
