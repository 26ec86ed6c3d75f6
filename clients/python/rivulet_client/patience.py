"""Which failures may pass, and how long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rivulet_client.errors import Refused, RivuletError, Unreachable

PASSING = {"capacity", "draining", "too_many"}


def backoff(first: float = 0.25, most: float = 8.0) -> Iterator[float]:
    """Seconds to wait before each further try: doubling, bounded, each cut by up to a half at random.

    The chance is there so that the many clients of one server that went away do not come back in one moment.
    """
    while True:
        yield first * random.uniform(0.5, 1.0)
        first = min(2 * first, most)


def passing(error: RivuletError) -> bool:
    """Whether another try may fare better: nobody answered, or the server is full or on its way out."""
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and error.code in PASSING)


def pause(error: RivuletError, delay: float) -> float:
    """Seconds to wait after `error`: `delay`, and no less than the server asked for."""
    asked = error.retry_after_ms if isinstance(error, Unreachable | Refused) else None
    return max(delay, (asked or 0) / 1000)
