"""Sessions one step more at a time, until the server refuses one or breaks a promise; and then all of them for long.

Figures come as dictionaries, which are rows of tables and of the JSON.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import psutil

from clients.bench.crew import Crew
from clients.bench.door import Admitted, Refusal, enter
from clients.bench.feed import Figures
from clients.bench.histogram import total
from clients.bench.observe import MIB, Look, Usage, between, usage
from clients.bench.session import Load

KNOCK_EVERY = 5.0  # s


@dataclass(frozen=True)
class Plan:
    """How to ramp: `step` sessions more a step, `settle` s that do not count and `hold` s that do; `most` sessions at most."""

    step: int
    settle: float
    hold: float
    most: int


def session_row(figures: Figures) -> dict[str, Any]:
    """One session."""
    return {
        "model": figures.model,
        "declared_ms": figures.declared_ms,
        **figures.latency.spread(),
        "chunks": figures.latency.count,
        "late_chunks": figures.late,
        "slip_p99_ms": 1000 * figures.slip.percentile(99),
        "samples_in": figures.samples_in,
        "samples_out": figures.samples_out,
        "kept": figures.kept,
        "failure": figures.failure,
    }


def row(sessions: Sequence[Figures]) -> dict[str, Any]:
    """All of them over one window; `worst`: the p99 nearest to, or furthest above, its session's declared latency."""
    whole = total(figures.latency for figures in sessions)
    counted = [figures for figures in sessions if figures.latency.count]
    worst = max(counted, key=lambda figures: figures.latency.percentile(99) / figures.declared_ms, default=None)
    return {
        "sessions": len(sessions),
        **whole.spread(),
        "worst_p99_ms": 1000 * worst.latency.percentile(99) if worst else math.nan,
        "worst_declared_ms": worst.declared_ms if worst else math.nan,
        "worst_model": worst.model if worst else None,
        "chunks": whole.count,
        "late_chunks": sum(figures.late for figures in sessions),
        "slip_p99_ms": 1000 * total(figures.slip for figures in sessions).percentile(99),
        "kept": bool(sessions) and all(figures.kept for figures in sessions),
        "failures": [figures.failure for figures in sessions if figures.failure],
    }


def knee(rows: Sequence[dict[str, Any]]) -> int:
    """The most sessions of a step at which, and at all smaller ones, every session kept its promise; 0 if at none."""
    best = 0
    for figures in sorted(rows, key=lambda figures: figures["sessions"]):
        if not figures["kept"]:
            break
        best = figures["sessions"]
    return best


Observe = Callable[[], Awaitable[Look]]


async def climb(crew: Crew, loads: int, plan: Plan, look: Observe, say: Callable[[dict[str, Any]], None]) -> list[Any]:
    """The rows, up to and with the one that ends it; `say` is told each at once. Sessions go on afterwards."""
    rows: list[dict[str, Any]] = []
    admitted = 0
    while admitted < plan.most:
        refusal = None
        for _ in range(min(plan.step, plan.most - admitted)):
            answer = await crew.enter(admitted % loads)
            if isinstance(answer, Refusal):
                refusal = answer
                break
            admitted += 1
        rows.append({**await _window(crew, plan, look), "refusal": asdict(refusal) if refusal else None})
        say(rows[-1])
        if refusal or not rows[-1]["kept"]:
            break
    return rows


async def _window(crew: Crew, plan: Plan, look: Observe) -> dict[str, Any]:
    await asyncio.sleep(plan.settle)
    await crew.reset()
    before, used = await look(), _used(crew)
    await asyncio.sleep(plan.hold)
    figures, after = await crew.figures(), await look()
    spent = (_used(crew).cpu - used.cpu) / (after.at - before.at)
    return {**row(figures), **between(before, after), "client_cores": spent}


async def stay(crew: Crew, loads: Sequence[Load], seconds: float, look: Observe) -> dict[str, Any]:
    """All sessions for so long, and one knock after another at the door for these loads; nobody should be let in.

    `client_rss_mib`: of the feeding processes, before and after.
    """
    await crew.reset()
    before, memory = await look(), _used(crew).rss / MIB
    knocks: list[dict[str, Any]] = []
    end = before.at + seconds
    now = asyncio.get_running_loop().time
    while (left := end - now()) > 0:
        await asyncio.sleep(min(KNOCK_EVERY, left))
        if loads:
            knocks.append(await knock(loads[len(knocks) % len(loads)]))
    figures, after = await crew.figures(), await look()
    return {
        "seconds": seconds,
        **row(figures),
        **between(before, after),
        "rss_before_mib": before.usage.rss / MIB if before.usage else None,
        "client_rss_mib": [memory, _used(crew).rss / MIB],
        "knocks": knocks,
        "refused_max_ms": max((one["ms"] for one in knocks if one["code"]), default=math.nan),
        "let_in": sum(one["code"] is None for one in knocks),
        "per_session": [session_row(one) for one in figures],
    }


async def knock(load: Load) -> dict[str, Any]:
    """A refusal as a row; `code` None for who was let in, and left at once."""
    answer = await enter(load)
    if isinstance(answer, Admitted):
        answer.socket.transport.abort()
        await answer.socket.wait_closed()
        return {"code": None, "message": "let in", "ms": answer.ms, "close": None, "retry_after_ms": None}
    return asdict(answer)


def _used(crew: Crew) -> Usage:
    """By the feeding processes together, so far."""
    each = [one for one in (usage(psutil.Process(pid)) for pid in crew.pids) if one]
    return Usage(*(sum(values) for values in zip(*(astuple(one) for one in each), strict=True)))
