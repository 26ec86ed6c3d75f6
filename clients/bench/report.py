"""Figures for people (a table, a plot) and for programs (JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.bench.timeline import Timeline, counted, send_latency

STARVED_MS = 5.0  # a client that sends later than this cannot tell a late server from its own delay


def table(figures: dict[str, Any]) -> str:
    """One line a session, and one for all of them."""
    columns = {
        "declared": "declared_ms", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms", "max": "max_ms", "late": "late_chunks",
        "chunks": "chunks", "RTF": "rtf", "slip p99": "slip_p99_ms", "samples in": "samples_in", "samples out": "samples_out",
    }  # fmt: skip
    rows = [["", *columns]]
    each = figures["per_session"]
    named = [*enumerate(each[:32])] if len(each) > 1 else []
    for name, row in [*((f"session {index}", row) for index, row in named), ("all", figures)]:
        rows.append([name, *(cell(row.get(key)) for key in columns.values())])
    lines = [grid(rows)]
    lines.append(
        f"milliseconds; RTF from {figures['rtf_source']}; {figures['sessions']} sessions of {figures['model']}"
    )
    if figures["slip_p99_ms"] > STARVED_MS:
        lines.append(f"this client itself was late by {figures['slip_p99_ms']:.1f} ms (p99): its machine was too busy")
    machine = figures.get("machine", {})
    if machine and machine["load_1min"] > machine["cpus"]:
        lines.append(
            f"this machine's load was {machine['load_1min']:.1f} on {machine['cpus']} CPUs: others were working on it"
        )
    return "\n".join(lines + [f"FAILED {failure}" for failure in figures["failures"]])


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, in columns."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def cell(value: Any) -> str:
    """A figure; a dash for what was not measured."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3g}" if value < 1 else f"{value:.1f}"
    return "-" if value is None else str(value)


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Strict JSON: what was not measured is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(strict(figures), indent=1) + "\n")


def strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def blank(width: float, height: float) -> Any:
    """An empty figure, in inches.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RuntimeError("--plot needs matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def plot(path: Path, timelines: Sequence[Timeline], figures: dict[str, Any], warmup: float) -> None:
    """Latency of every chunk against its place on the timeline, and how often each latency came, as PNG.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    figure = blank(11, 4.5)
    over, often = figure.subplots(1, 2, width_ratios=(2.2, 1))
    pooled: list[float] = []
    for index, timeline in enumerate(timelines):
        chunks = [arrival for arrival in timeline.arrivals if arrival.frames]
        seconds = [arrival.start / timeline.rate for arrival in chunks]
        over.plot(seconds, [1000 * send_latency(timeline, arrival) for arrival in chunks], lw=0.7, label=f"{index}")
        pooled += [1000 * send_latency(timeline, arrival) for arrival in counted(timeline, warmup)]
    if pooled:
        often.hist(pooled, bins=60, color="0.4")
    over.axvspan(0, warmup, color="0.92")
    over.set(xlabel="place on the timeline (s)", ylabel="latency of a chunk's first sample (ms)", ylim=(0, None))
    often.set(xlabel="latency (ms)", ylabel="chunks", yscale="log")
    if math.isfinite(declared := figures["declared_ms"]):
        over.axhline(declared, color="tab:red", ls="--", label="declared")
        over.set_ylim(top=max(over.get_ylim()[1], 1.05 * declared))
        often.axvline(declared, color="tab:red", ls="--")
        often.axvline(figures["p99_ms"], color="tab:orange", ls=":") if pooled else None
    if len(timelines) <= 8:
        over.legend(title="session", loc="lower right", fontsize="small")
    shown = f"p50 {figures['p50_ms']:.1f}, p99 {figures['p99_ms']:.1f}, declared {figures['declared_ms']:.1f} ms"
    figure.suptitle(f"{figures['model']}, {figures['sessions']} sessions: {shown}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
