"""Waiting for something to become true, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Bell:
    """Whoever changes something rings; whoever waits looks again. No lock: between two awaits nobody else runs."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        """Returns when `true()`, at once if it is already."""
        while not true():
            await self._rung.wait()
