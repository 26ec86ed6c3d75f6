"""The clock of a session."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from server.pace import Arrivals, Budget, Pace


async def test_audio_on_time_is_due_when_it_comes() -> None:
    pace = Pace(1000, ahead=1)
    for _ in range(3):
        await asyncio.sleep(0.01)
        before = time.monotonic()
        assert before <= await pace.hear(5) <= time.monotonic()


async def test_a_minute_at_once_is_due_over_a_minute_and_read_no_further() -> None:
    pace = Pace(1000, ahead=5)
    now = time.monotonic()
    dues = [await asyncio.wait_for(pace.hear(1000), 1) - now for _ in range(6)]
    assert all(0.9 < later - earlier < 1.1 for earlier, later in pairwise(dues))
    waiting = asyncio.ensure_future(pace.hear(1000))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()  # 6 s ahead, and 5 are allowed
    waiting.cancel()


async def test_what_is_replayed_is_due_already() -> None:
    pace = Pace(1000, ahead=1, owed=60_000)
    for _ in range(60):
        assert await asyncio.wait_for(pace.hear(1000), 1) <= time.monotonic()
    assert await pace.hear(1000) > time.monotonic() + 0.9


async def test_messages_beyond_the_budget_are_read_later() -> None:
    budget = Budget(100)
    began = time.monotonic()
    for _ in range(130):
        await budget.message()
    assert time.monotonic() - began > 0.25  # a second's worth at once, and thirty a hundredth each


def test_arrivals_know_when_a_sample_was_due() -> None:
    arrivals = Arrivals()
    assert arrivals.of(0) is None
    for end, due in ((100, 1.0), (200, 2.0), (250, 3.0)):
        arrivals.heard(end, due)
    assert [arrivals.of(sample) for sample in (0, 99, 100, 249, 999)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert arrivals.told(99) is None
    assert arrivals.told(210) == 2.0
    assert arrivals.of(0) == 3.0
