"""Long arithmetic off the event loop, short arithmetic on it: a thread costs 0.1 ms, and a seam of htdemucs 10 ms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LARGE = 100_000  # values; what numpy does with fewer is over in about a millisecond


async def aside(values: int, work: Callable[[], T]) -> T:
    """`work`, which touches so many values, where it holds nobody up."""
    return await asyncio.to_thread(work) if values > LARGE else work()
