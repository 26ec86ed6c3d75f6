"""What was sent when and what came back when, as figures. Pure: no clock, no socket.

Packet `i` holds the samples `[i*packet, (i+1)*packet)` and leaves, if all goes well, at `t0 + (i+1)*packet/rate`: when the
last of them would have been captured. An output chunk `[a, b)` has two latencies, both of its *first* sample, which has
waited longest:

- **send**: its arrival minus the time at which the packet that holds sample `a` left. Server and network, both ways.
- **capture**: its arrival minus `t0 + a/rate`, the time at which sample `a` was captured. That and the packetisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from rivulet_client.codec import Ready, Stats


class Arrival(NamedTuple):
    """An output chunk: its first sample, its samples, and when it came (s)."""

    start: int
    frames: int
    at: float


@dataclass
class Timeline:
    """The record of one session, filled while it runs. Times in s of one monotonic clock, positions in samples."""

    rate: int
    packet: int
    t0: float = 0.0
    finished: float = 0.0
    ready: Ready | None = None
    sent: list[float] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    stats: list[tuple[float, Stats]] = field(default_factory=list)
    done: int | None = None
    error: str | None = None

    @property
    def samples_in(self) -> int:
        return len(self.sent) * self.packet

    @property
    def samples_out(self) -> int:
        return sum(arrival.frames for arrival in self.arrivals)

    @property
    def failure(self) -> str | None:
        """Why this session does not count; None when every sample came back."""
        if self.error is None and not self.samples_in == self.samples_out == self.done:
            return f"{self.samples_in} samples in, {self.samples_out} out, done says {self.done}"
        return self.error


def percentile(values: Sequence[float], p: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `p` % of all do not exceed. NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(p / 100 * len(values)) - 1)]


def due(timeline: Timeline, index: int) -> float:
    """When packet `index` should leave. From the beginning each time, so that no error adds up."""
    return timeline.t0 + (index + 1) * timeline.packet / timeline.rate


def send_latency(timeline: Timeline, arrival: Arrival) -> float:
    """s from the leaving of the packet with the chunk's first sample to the chunk's arrival."""
    return arrival.at - timeline.sent[arrival.start // timeline.packet]


def capture_latency(timeline: Timeline, arrival: Arrival) -> float:
    """s from the capture of the chunk's first sample to the chunk's arrival."""
    return arrival.at - (timeline.t0 + arrival.start / timeline.rate)


def counted(timeline: Timeline, warmup: float) -> list[Arrival]:
    """The chunks, not empty, that begin `warmup` s or more into the stream."""
    return [arrival for arrival in timeline.arrivals if arrival.frames and arrival.start >= warmup * timeline.rate]


def spread(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """p50, p95, p99 and max in ms."""
    figures = {f"{prefix}p{p}_ms": 1000 * percentile(seconds, p) for p in (50, 95, 99)}
    return {**figures, f"{prefix}max_ms": 1000 * max(seconds, default=math.nan)}


def compute(timeline: Timeline, warmup: float) -> dict[str, float]:
    """What the server's `stats` say after the warm-up: the median of its medians, the largest of its p95s; and `rtf`.

    `rtf` is compute seconds per second of audio: the median of `compute_p50_ms` over the median length of an output chunk,
    a model step each. It counts one session's steps, whoever else is in the batch. Without stats it is the wall time from
    the first sample to `done` over the audio time, which cannot be below 1 for paced audio and says only whether the server
    kept up.
    """
    stats = [figures for at, figures in timeline.stats if at >= timeline.t0 + warmup]
    chunks = [arrival.frames for arrival in counted(timeline, warmup)]
    if not stats or not chunks:
        audio = timeline.samples_in / timeline.rate
        return {"rtf": (timeline.finished - timeline.t0) / audio if audio else math.nan}
    p50 = median(figures.compute_p50_ms for figures in stats)
    return {
        "rtf": p50 / (1000 * median(chunks) / timeline.rate),
        "compute_p50_ms": p50,
        "compute_p95_ms": max(figures.compute_p95_ms for figures in stats),
        "queue_p95_ms": max(figures.queue_p95_ms for figures in stats),
        "lag_p50_ms": median(figures.lag_ms for figures in stats),
        "tick_ms": 1000 * median(chunks) / timeline.rate,
    }


def session_figures(timeline: Timeline, warmup: float) -> dict[str, Any]:
    """One session."""
    chunks = counted(timeline, warmup)
    declared = timeline.ready.latency_ms if timeline.ready else math.nan
    latencies = [send_latency(timeline, arrival) for arrival in chunks]
    slips = [at - due(timeline, index) for index, at in enumerate(timeline.sent)]
    return {
        "declared_ms": declared,
        **spread(latencies),
        **spread([capture_latency(timeline, arrival) for arrival in chunks], "capture_"),
        **compute(timeline, warmup),
        "slip_p99_ms": 1000 * percentile(slips, 99),
        "chunks": len(chunks),
        "late_chunks": sum(1000 * latency > declared for latency in latencies),
        "samples_in": timeline.samples_in,
        "samples_out": timeline.samples_out,
        "latency_samples": timeline.ready.latency_samples if timeline.ready else None,
        "failure": timeline.failure,
    }


def summary(timelines: Sequence[Timeline], warmup: float) -> dict[str, Any]:
    """All sessions: latencies of all chunks together, figures of the server averaged, counts added, each session beside."""
    each = [session_figures(timeline, warmup) for timeline in timelines]
    chunks = [(timeline, arrival) for timeline in timelines for arrival in counted(timeline, warmup)]
    slips = [at - due(timeline, index) for timeline in timelines for index, at in enumerate(timeline.sent)]
    served = ("rtf", "compute_p50_ms", "compute_p95_ms", "queue_p95_ms", "lag_p50_ms", "tick_ms")
    means = {key: _mean([figures[key] for figures in each if key in figures]) for key in served}
    return {
        "declared_ms": max((figures["declared_ms"] for figures in each), default=math.nan),
        **spread([send_latency(*pair) for pair in chunks]),
        **{key: value for key, value in means.items() if not math.isnan(value)},
        "rtf_source": "stats" if any("compute_p50_ms" in figures for figures in each) else "wall",
        "sessions": len(timelines),
        **{
            key: sum(figures[key] for figures in each) for key in ("samples_in", "samples_out", "chunks", "late_chunks")
        },
        **spread([capture_latency(*pair) for pair in chunks], "capture_"),
        "slip_p99_ms": 1000 * percentile(slips, 99),
        "failures": [figures["failure"] for figures in each if figures["failure"]],
        "per_session": each,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
