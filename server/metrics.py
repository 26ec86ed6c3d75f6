"""What the server counts. One registry an application: nothing at module level, so tests can have many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from models.separator import Separator

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Prometheus figures; names end in their unit."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.open = 0
        self.sessions = Gauge("rivulet_sessions", "Sessions open now", ["model"], registry=self.registry)
        self.opened = Counter("rivulet_sessions_opened", "Sessions begun", ["model"], registry=self.registry)
        self.closes = Counter("rivulet_closes", "Ends of connections by reason", ["reason"], registry=self.registry)
        self.run = Histogram(
            "rivulet_run_seconds", "One run of a model", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "rivulet_batch_windows",
            "Windows that ran together",
            ["model"],
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.lag = Histogram(
            "rivulet_lag_seconds",
            "From a sample's arrival to its leaving",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.samples = Counter("rivulet_samples_out", "Samples told, a channel", ["model"], registry=self.registry)
        self.loop_lag = Histogram(
            "rivulet_event_loop_lag_seconds", "How late a timer fires", buckets=SECONDS, registry=self.registry
        )

    @contextmanager
    def session(self, model: str) -> Iterator[None]:
        """Counts a session while it is open."""
        self.opened.labels(model).inc()
        self.open += 1
        try:
            with self.sessions.labels(model).track_inprogress():
                yield
        finally:
            self.open -= 1

    def closed(self, reason: str, code: int) -> int:
        """Counts the end of a connection; gives the code back."""
        self.closes.labels(reason).inc()
        return code

    def ran(self, separator: Separator, batch: int, seconds: float) -> None:
        """What the engine reports of every run, from its own thread."""
        self.run.labels(separator.spec.name).observe(seconds)
        self.batch.labels(separator.spec.name).observe(batch)


class Window:
    """The last so many values of something, for percentiles."""

    def __init__(self, size: int = 500) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        self._values.append(value)

    def percentile(self, percent: float) -> float:
        """0 while there is nothing."""
        return float(np.percentile(np.fromiter(self._values, float), percent)) if self._values else 0.0
