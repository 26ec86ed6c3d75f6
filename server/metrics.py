"""What the server counts. One registry an application: nothing at module level, so tests can have many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.engine import Lane, Run

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Prometheus figures; names end in their unit."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def seconds(name: str, text: str, *labels: str, buckets: Sequence[float] = SECONDS) -> Histogram:
            return Histogram(f"rivulet_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"rivulet_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rivulet_{name}", text, labels, registry=registry)

        self.sessions = gauge("sessions", "Sessions open now", "model")
        self.opened = counter("sessions_opened", "Sessions begun", "model")
        self.free = gauge("seats_free", "Further sessions that would be let in now", "model")
        self.refusals = counter("refusals", "Sessions refused at the door", "code")
        self.resumes = counter(
            "resumes", "Sessions that went on after a lost connection, and tries that failed", "outcome"
        )
        self.closes = counter("closes", "Ends of connections", "reason", "code")
        self.run = seconds("run_seconds", "One run of a model", "model")
        self.batch = seconds("batch_windows", "Windows that ran together", "model", buckets=(1, 2, 4, 8, 16, 32))
        self.overdue = counter("overdue_windows", "Windows that were computed after their deadline", "model")
        self.utilisation = gauge("utilisation", "Share of the last second that a lane was running models", "lane")
        self.waiting = gauge("waiting_windows", "Windows that wait for a lane", "lane")
        self.lag = seconds("lag_seconds", "From a chunk's first sample's arrival to the chunk's leaving", "model")
        self.kept = seconds(
            "deadline_ratio", "That lag over the promised one", "model", buckets=(0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.5, 2)
        )
        self.late = counter("late_chunks", "Chunks that left later than promised", "model")
        self.samples = counter("samples_out", "Samples told, a channel", "model")
        self.silenced = counter("silenced_messages", "Messages with samples that were not numbers, or beyond sound")
        self.loop_lag = seconds("event_loop_lag_seconds", "How late a timer fires")
        self.tasks = gauge("tasks", "Tasks of the event loop")
        self.rtc_peers = gauge("rtc_peers", "Peers over WebRTC, connected or about to be", "kind")
        self.rtc_tracks = gauge("rtc_tracks", "Audio tracks that go out over WebRTC")
        self.rtc_packets = counter("rtc_packets", "RTP packets that came, or did not", "what")
        self.rtc_setup = seconds("rtc_setup_seconds", "From a peer's offer until it is connected", "kind")
        self.rtc_failures = counter("rtc_failures", "Peers that were answered and never connected", "kind")
        self.model_bytes = gauge("model_bytes", "Weights in memory", "model")

    @contextmanager
    def session(self, model: str) -> Iterator[None]:
        """Counts a session while it is open."""
        self.opened.labels(model).inc()
        with self.sessions.labels(model).track_inprogress():
            yield

    def closed(self, reason: str, code: int) -> int:
        """Counts the end of a connection; gives the code back."""
        self.closes.labels(reason, str(code)).inc()
        return code

    def ran(self, run: Run) -> None:
        """What the engine reports of every run, from its own threads."""
        name = run.separator.spec.name
        self.run.labels(name).observe(run.seconds)
        self.batch.labels(name).observe(run.batch)
        self.overdue.labels(name).inc(run.late)

    def told(self, model: str, lag: float, promised: float) -> None:
        """A chunk of a live session left: how old it was, and how old it might be (s)."""
        self.lag.labels(model).observe(lag)
        self.kept.labels(model).observe(lag / promised)
        self.late.labels(model).inc(lag > promised)

    def utilised(self, lanes: Mapping[Lane, float]) -> None:
        for lane, share in lanes.items():
            self.utilisation.labels(lane).set(share)

    def waits(self, lanes: Mapping[Lane, int], tasks: int) -> None:
        for lane, windows in lanes.items():
            self.waiting.labels(lane).set(windows)
        self.tasks.set(tasks)


class Window:
    """The last so many values of something, for percentiles."""

    def __init__(self, size: int = 500) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        self._values.append(value)

    def percentile(self, percent: float) -> float:
        """0 while there is nothing."""
        return float(np.percentile(np.fromiter(self._values, float), percent)) if self._values else 0.0
