"""What the load benchmarks make of what they saw: pure functions, on figures whose answer is known."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from clients.bench import churn, load, load_report, metrics, ramp, stall
from clients.bench.feed import Figures
from clients.bench.histogram import GROWTH, LEAST, total
from clients.bench.histogram import Histogram as Durations
from clients.bench.stalled import Stalled
from clients.bench.timeline import percentile


def durations(*seconds: float) -> Durations:
    made = Durations()
    for value in seconds:
        made.add(value)
    return made


@given(st.lists(st.floats(LEAST, 200.0), min_size=1), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentiles_are_half_a_percent_high_at_most(values: list[float], p: float) -> None:
    exact, got = percentile(values, p), durations(*values).percentile(p)
    assert exact <= got * (1 + 1e-9)
    assert got <= exact * GROWTH * (1 + 1e-9)


def test_count_and_most_are_exact_and_nothing_has_no_percentile() -> None:
    assert math.isnan(Durations().percentile(50))
    assert math.isnan(Durations().spread()["max_ms"])
    some = durations(-1.0, 0.0, 0.25, 10_000.0)
    assert (some.count, some.most, some.percentile(100)) == (4, 10_000.0, pytest.approx(230, rel=0.05))
    assert durations(0.25).spread("x_")["x_max_ms"] == 250


def test_histograms_add_up_and_travel() -> None:
    parts = [durations(*np.random.default_rng(seed).uniform(0.01, 1, 100)) for seed in range(3)]
    whole = total(pickle.loads(pickle.dumps(parts)))
    assert (whole.count, whole.most) == (300, max(part.most for part in parts))
    assert whole.percentile(100) == whole.most
    assert list(whole.counts) == [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    assert total([]).count == 0


# --- promises ---


def figures(latencies: list[float], declared_ms: float = 50.0, **changes: Any) -> Figures:
    late = sum(1000 * value > declared_ms for value in latencies)
    values = {"samples_in": 10, "samples_out": 10, "failure": None, **changes}
    return Figures("toy", declared_ms, durations(*latencies), durations(0.001), late, **values)


@pytest.mark.parametrize(
    ("latencies", "kept"),
    [
        ([0.04] * 99 + [0.06], True),  # the 99th of 100 is in time
        ([0.04] * 98 + [0.06] * 2, False),
        ([0.04] * 98 + [0.06], False),
        ([0.05] * 10, True),
        ([], False),  # nothing came: no promise was kept
    ],
)
def test_a_promise_is_kept_when_p99_is(latencies: list[float], kept: bool) -> None:
    assert figures(latencies).kept is kept
    if latencies:
        assert (1000 * percentile(latencies, 99) <= 50) is kept
    assert not figures(latencies, failure="gone").kept


def test_a_row_shows_the_session_that_is_worst_off_by_its_own_promise() -> None:
    row = ramp.row([figures([0.045]), figures([0.4], declared_ms=1000.0)])
    assert (row["worst_p99_ms"], row["worst_declared_ms"]) == (pytest.approx(45), 50)
    assert (row["sessions"], row["chunks"], row["late_chunks"], row["kept"]) == (2, 2, 0, True)
    assert row["max_ms"] == 400
    assert not ramp.row([])["kept"]
    assert ramp.row([figures([], failure="gone")])["failures"] == ["gone"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], 0),
        ([(1, True), (2, True)], 2),
        ([(1, True), (2, False)], 1),
        ([(1, False)], 0),
        ([(1, True), (2, False), (3, True)], 1),
        ([(2, True), (2, False)], 2),
    ],
)
def test_the_knee_is_before_the_first_broken_promise(steps: list[tuple[int, bool]], expected: int) -> None:
    assert ramp.knee([{"sessions": sessions, "kept": kept} for sessions, kept in steps]) == expected


def refusal(ms: float) -> dict[str, Any]:
    return {"code": "capacity", "message": "full", "ms": ms, "close": 1013, "retry_after_ms": 4000}


def test_what_check_complains_about() -> None:
    fine = {**ramp.row([figures([0.04])]), "refusal": refusal(3.0)}
    broken = {**ramp.row([figures([0.06])]), "refusal": None}
    held = {**fine, "knocks": [refusal(49.0)], "let_in": 0}
    assert load.broken(load.summary([fine], held, [])) == []
    assert load.broken(load.summary([broken], None, [])) == ["1 sessions: p99 60.0 of declared 50.0 ms"]
    assert load.broken(load.summary([fine], {**held, "let_in": 2}, [])) == [
        "2 were let in after a refusal, while all others stayed"
    ]
    slow = {**held, "knocks": [refusal(70.0)]}
    assert load.broken(load.summary([fine], slow, [])) == ["a refusal took 70.0 ms, expected at most 50"]
    assert "again after 4000 ms" in load_report.closing(
        {**load.summary([fine], None, []), "models": ["toy"]},
    )


# --- what the server says ---


def exposed(observed: list[float], count: int, sessions: int) -> metrics.Scrape:
    registry = CollectorRegistry()
    histogram = Histogram("lag_seconds", "", ["model"], buckets=(0.001, 0.01, 0.1), registry=registry)
    Counter("closes", "", ["reason"], registry=registry).labels("done").inc(count)
    Gauge("sessions", "", ["model"], registry=registry).labels("a").set(sessions)
    for index, value in enumerate(observed):
        histogram.labels(str(index % 2)).observe(value)
    return metrics.parse(generate_latest(registry).decode())


def test_what_happened_between_two_scrapes() -> None:
    before, after = exposed([0.05] * 7, 3, 2), exposed([0.05] * 7 + [0.005] * 9 + [0.0005], 5, 4)
    assert metrics.increase(before, after, "closes_total") == 2
    assert metrics.increase({}, after, "closes_total") == 5
    assert metrics.value(after, "sessions") == 4
    assert metrics.mean(before, after, "lag_seconds") == pytest.approx(0.00455)
    # 10 observations, one in the first bucket, nine in (0.001, 0.01]: the 5.5th is half way through the second
    assert metrics.quantile(before, after, "lag_seconds", 0.55) == pytest.approx(0.0055)
    assert metrics.value(metrics.parse("# TYPE sessions gauge\n# TYPE closes counter\n"), "sessions") == 0
    assert metrics.quantile({}, exposed([5.0], 0, 0), "lag_seconds", 0.99) == 0.1
    assert metrics.by(after, "sessions", "model") == {"a": 4}


def test_a_server_that_says_nothing() -> None:
    for answer in (
        metrics.value({}, "a"),
        metrics.increase({}, {}, "a"),
        metrics.mean({}, {}, "a"),
        metrics.quantile({}, {}, "a", 0.5),
    ):
        assert answer is None
    assert metrics.quantile(quiet := exposed([0.5], 0, 0), quiet, "lag_seconds", 0.5) is None


# --- churn and stall ---


def looked(cycles: int, mib: float, threads: int = 4, files: int = 10) -> dict[str, Any]:
    return {"cycles": cycles, "rss_mib": mib, "threads": threads, "files": files}


def test_the_slope_leaves_the_warmup_out() -> None:
    rows = [looked(0, 10.0), *(looked(at, 100 + at / 1024) for at in range(200, 1001, 50))]
    assert churn.slope(rows, 200) == pytest.approx(1.0)
    assert churn.slope(rows, 0) > 10
    assert math.isnan(churn.slope(rows[:1], 0))
    assert math.isnan(churn.slope([{**looked(at, 1.0), "rss_mib": None} for at in (0, 50)], 0))


def test_what_is_left_behind() -> None:
    assert churn.left([looked(0, 1.0), looked(50, 1.0)], 0, 4.0) == []
    said = churn.left([looked(0, 1.0), looked(50, 2.0, threads=13, files=19)], 0, 4.0)
    assert said == [
        "20.48 KiB a cycle, expected at most 4",
        "13 threads, 4 after 0 cycles",
        "19 files, 10 after 0 cycles",
    ]


def test_phases_are_compared_by_kind() -> None:
    stalled = Stalled(True, 4408, "timeout", 11.0, 1.5, 0.25, 1.25)
    phases = [
        stall.Phase("A", 30.0, durations(0.1), 0, 1.0),
        stall.Phase("B", 11.0, durations(0.3), 1, 1.0, stalled),
        stall.Phase("A", 30.0, durations(0.1, 0.2), 0, 1.0),
    ]
    made = stall.summary(phases)
    assert made["ratio_p50"] == pytest.approx(3.0, rel=0.01)
    assert made["ratio_p99"] == pytest.approx(1.5, rel=0.01)
    assert [phase["phase"] for phase in made["phases"]] == ["A", "B", "A"]
    said = stall.table({**made, "sessions": 2, "declared_ms": 50.0, "failures": []})
    assert "4408 timeout after 11.0 s; hidden 1.2 s" in said
