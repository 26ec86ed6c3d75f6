"""How often each duration came, in constant memory: a benchmark of ten minutes must not weigh more than one of ten seconds."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np

LEAST = 1e-5  # s; what is shorter, or negative, counts as this
GROWTH = 1.005  # from bin to bin: a percentile is at most so much, half a percent, too large
BINS = 3400  # up to 230 s
_LOG = math.log(GROWTH)


class Histogram:
    """Durations in s. `count` and `most` are exact; percentiles are those of geometric bins, rounded up."""

    def __init__(self) -> None:
        self.counts, self.count, self.most = array("I", bytes(4 * BINS)), 0, 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        place = int(math.log(seconds / LEAST) / _LOG) if seconds > LEAST else 0
        self.counts[min(place, BINS - 1)] += 1
        self.count += 1
        self.most = max(self.most, seconds)

    def percentile(self, p: float) -> float:
        """By nearest rank, s: at least `p` % of all are not longer. NaN of nothing."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(p / 100 * self.count))
        place = int(np.searchsorted(np.cumsum(np.asarray(self.counts, np.int64)), rank))
        return min(LEAST * GROWTH ** (place + 1), self.most)

    def spread(self, prefix: str = "") -> dict[str, float]:
        """p50, p95, p99 and max in ms."""
        figures = {f"{prefix}p{p}_ms": 1000 * self.percentile(p) for p in (50, 95, 99)}
        return {**figures, f"{prefix}max_ms": 1000 * self.most if self.count else math.nan}


def total(parts: Iterable[Histogram]) -> Histogram:
    """All of them as one."""
    whole = Histogram()
    for part in parts:
        whole.counts = array("I", (np.asarray(whole.counts) + np.asarray(part.counts)).astype(np.uint32).tobytes())
        whole.count += part.count
        whole.most = max(whole.most, part.most)
    return whole
