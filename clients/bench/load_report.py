"""The load benchmark for people: a line a step as it goes, what came of it, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clients.bench.report import STARVED_MS, blank, cell, grid

COLUMNS = {
    "sessions": "sessions", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms", "max": "max_ms",
    "worst p99": "worst_p99_ms", "declared": "worst_declared_ms", "late": "late_chunks", "chunks": "chunks",
    "slip p99": "slip_p99_ms", "loop p99": "loop_lag_p99_ms", "batch": "batch_mean", "computing": "computing",
    "busiest": "busiest", "cores": "cpu_cores",
    "client's": "client_cores", "RSS": "rss_mib", "refused": "refused",
}  # fmt: skip
WIDTH = 9


def heading() -> str:
    """The names of the columns; milliseconds and MiB."""
    return " ".join(name.rjust(WIDTH) for name in COLUMNS)


def line(row: dict[str, Any]) -> str:
    """One step. `busiest`: the utilisation of the lane that has most."""
    refusal = row.get("refusal")
    shown = {
        **row,
        "busiest": max(row.get("utilisation", {}).values(), default=None),
        "refused": f"{refusal['code']} in {refusal['ms']:.1f} ms" if refusal else "",
    }
    broken = "" if row["kept"] else "  BROKEN"
    return " ".join(cell(shown.get(key)).rjust(WIDTH) for key in COLUMNS.values()) + broken


def closing(figures: dict[str, Any]) -> str:
    """The knee, the door, and how those inside fared."""
    door, refusal = figures["door"], figures["door"]["first_refusal"]
    lines = [f"knee: {figures['knee']} sessions of {', '.join(figures['models'])} kept their promises"]
    if refusal:
        lines.append(
            f"door: {door['admitted']} admitted, then {refusal['code']} in {refusal['ms']:.1f} ms, {_again(refusal)}"
        )
        lines.append(f"      {refusal['message']}")
    else:
        lines.append(f"door: {door['admitted']} admitted, nobody refused")
    lines += _held(figures["hold"]) if figures["hold"] else []
    lines.append(f"samples: {figures['samples_in']} in, {figures['samples_out']} out")
    slip = max(row["slip_p99_ms"] for row in figures["steps"])
    if slip > STARVED_MS:
        lines.append(f"this client itself was late by {slip:.1f} ms (p99 of a step): --processes, or another machine")
    if (machine := figures.get("machine")) and machine["load_1min"] > machine["cpus"]:
        lines.append(
            f"this machine's load is {machine['load_1min']:.1f} on {machine['cpus']} CPUs, this client and all others"
        )
    return "\n".join(lines + [f"FAILED {failure}" for failure in figures["failures"]])


def _again(refusal: dict[str, Any]) -> str:
    wait = refusal["retry_after_ms"]
    return "no word when to try again" if wait is None else f"again after {wait} ms"


def _held(held: dict[str, Any]) -> list[str]:
    names = {
        "model": "model", "declared": "declared_ms", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms", "max": "max_ms",
        "late": "late_chunks", "chunks": "chunks", "slip p99": "slip_p99_ms",
    }  # fmt: skip
    everybody = {**held, "model": "all", "declared_ms": held["worst_declared_ms"]}
    rows = [
        [*(cell(each[key]) for key in names.values()), "" if each["kept"] else "BROKEN"]
        for each in [*held["per_session"], everybody]
    ]
    knocks, client = held["knocks"], held["client_rss_mib"]
    return [
        f"held for {held['seconds']:g} s:",
        grid([[*names, ""], *rows]),
        f"knocked {len(knocks)} times: {held['let_in']} let in, slowest refusal {cell(held['refused_max_ms'])} ms",
        f"memory, MiB: server {cell(held['rss_before_mib'])} to {cell(held.get('rss_mib'))}, "
        f"client {client[0]:.1f} to {client[1]:.1f}",
    ]


def plot(path: Path, figures: dict[str, Any]) -> None:
    """Latency, and how busy the server was, against sessions, as PNG.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    rows = figures["steps"]
    sessions = [row["sessions"] for row in rows]
    figure = blank(9, 6)
    latency, busy = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for key, label in (("p50_ms", "p50"), ("p99_ms", "p99"), ("worst_p99_ms", "worst session's p99")):
        latency.plot(sessions, [row[key] for row in rows], marker=".", label=label)
    latency.plot(
        sessions, [row["worst_declared_ms"] for row in rows], color="tab:red", ls="--", label="its declared latency"
    )
    latency.set(ylabel="latency of a chunk's first sample (ms)", ylim=(0, None))
    for key, label in (("cpu_cores", "processor (cores)"), ("computing", "model runs (s a second)")):
        if all(row.get(key) is not None for row in rows):
            busy.plot(sessions, [row[key] for row in rows], marker=".", label=label)
    busy.set(xlabel="sessions", ylim=(0, None))
    for axes in (latency, busy):
        axes.axvline(figures["knee"], color="0.6", ls=":", label=f"knee: {figures['knee']}")
        axes.legend(fontsize="small")
    figure.suptitle(f"{', '.join(figures['models'])}: {figures['door']['admitted']} admitted")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
