"""Audio that has been heard and not yet cut: bounded, so that a client faster than the model is held back by not reading it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import numpy as np

from streaming.framing import Array


class Inbox:
    """A bounded queue of PCM, `[C, T]`, that hands out everything it holds at once: a late reader catches up in one step."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: deque[Array] = deque()
        self._held = 0
        self._ended = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, pcm: Array) -> None:
        """Waits while more than `limit` samples are held."""
        while self._held >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._parts.append(pcm)
        self._held += pcm.shape[1]
        self._more.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._more.set()

    async def drain(self) -> AsyncIterator[Array]:
        """Everything put, until `end`."""
        while True:
            while not self._parts:
                if self._ended:
                    return
                self._more.clear()
                await self._more.wait()
            pcm = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts, axis=1)
            self._parts.clear()
            self._held = 0
            self._room.set()
            yield pcm
