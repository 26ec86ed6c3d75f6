"""What one client that stops reading costs the others, and how much audio the server hides in buffers before it notices.

    python -m clients.bench.stall --url ws://127.0.0.1:8000 --model speech --sessions 20 --seconds 30

All sessions are paced and read, but for one: in phase A it reads too, in phase B it stops for good, and goes on sending.
A and B take turns (`--rounds`), so that a noisy machine does not decide; the others stay the same, the one is new each
time. In B the others are counted as long as the stalled session is open, but for `--seconds` at most; `ratio` is B over A.

**Hidden audio** is what the server had sent for the stalled session when it could send no more. At the stall the client's
process reads all that has come, then stops the socket from being read. When the server has ended the session, everything
up to the close is read: `drained_s` of output. Of that, `client_s` had come as far as the client's kernel (FIONREAD); the
rest, `hidden_s`, waited in the server's process, its kernel, or on the way. All are seconds of output, counted by the sample
indices of the stems; `client_s` by bytes. The stalled client's receive buffer is small (`--receive-buffer`), as a client's
that is short of memory, because otherwise the kernel there takes seconds of audio before the server can know.

When it ended, `ended_s` after the stall, is seen on the server's `/metrics` (`rivulet_sessions` goes down, so nobody else
should come and go), looked at twice a second in both phases; without it, `--seconds` pass first. If the server had not
ended it by then, nothing is said about hidden audio: what comes then was not all hidden.

Exit code 1: one of the others failed, or the server let the stalled session be. With `--check`, 2: the p99 of the others
in B, both rounds together, is more than `--most-ratio` times that in A.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clients.bench import metrics, options, report
from clients.bench.circumstances import circumstances
from clients.bench.door import Refusal, enter
from clients.bench.feed import Feed
from clients.bench.histogram import Histogram, total
from clients.bench.observe import scrape
from clients.bench.session import Load
from clients.bench.stalled import Stalled, drain, stall
from clients.bench.target import endless

LOOK_EVERY = 0.5  # s


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = options.paced(options.parser("stall", __doc__))
    parser.add_argument("--model", default="speech")
    parser.add_argument("--sessions", type=int, default=20, help="with the one that stalls")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a phase; more than the server's patience")
    parser.add_argument("--settle", type=float, default=3.0, help="s before a phase that do not count")
    parser.add_argument("--rounds", type=int, default=2, help="of A and B")
    parser.add_argument("--receive-buffer", type=int, default=4096, help="bytes, of the one that stalls")
    parser.add_argument("--most-ratio", type=float, default=1.10, help="for --check")
    parser.add_argument("--check", action="store_true", help="exit 2 if the others suffer")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Phase:
    """The others in one phase of `seconds`."""

    name: str
    seconds: float
    latency: Histogram
    late: int
    slip_p99_ms: float
    stalled: Stalled | None = None

    def row(self) -> dict[str, Any]:
        """For tables and JSON."""
        counts = {"chunks": self.latency.count, "late_chunks": self.late, "slip_p99_ms": self.slip_p99_ms}
        stalled = asdict(self.stalled) if self.stalled else None
        return {"phase": self.name, "seconds": self.seconds, **self.latency.spread(), **counts, "stalled": stalled}


async def run(load: Load, given: argparse.Namespace) -> tuple[list[Phase], list[str], float]:
    """The phases in order, what went wrong with the others, and the latency declared to them (ms)."""
    others: list[Feed] = []
    try:
        for _ in range(given.sessions - 1):
            others.append(await _begin(load))  # noqa: PERF401 (those before a refusal have to be left)
        phases = [phase for _ in range(given.rounds) for phase in await _round(load, others, given)]
        ended = await asyncio.gather(*(feed.finish() for feed in others))
        return phases, [one.failure for one in ended if one.failure], max(one.declared_ms for one in ended)
    finally:
        await asyncio.gather(*(feed.leave() for feed in others))


async def _round(load: Load, others: Sequence[Feed], given: argparse.Namespace) -> tuple[Phase, Phase]:
    one = await _begin(load, given.receive_buffer)
    try:
        await asyncio.sleep(given.settle)
        reading = await _phase("A", others, given, None)
        await asyncio.sleep(given.settle)
        return reading, await _phase("B", others, given, one)
    finally:
        await one.leave()


async def _begin(load: Load, receive_buffer: int | None = None) -> Feed:
    answer = await enter(load, receive_buffer)
    if isinstance(answer, Refusal):
        raise ValueError(f"refused with {answer.code}: {answer.message} (use fewer --sessions)")
    return Feed(answer.socket, answer.ready, load)


async def _phase(name: str, others: Sequence[Feed], given: argparse.Namespace, one: Feed | None) -> Phase:
    now = asyncio.get_running_loop().time
    for feed in others:
        feed.reset()
    begun = now()
    if one:
        await stall(one)
    ended = await _wait(given, one is not None)
    seconds, figures = now() - begun, [feed.figures() for feed in others]
    stalled = await drain(one, ended) if one else None
    latency, slip = total(figure.latency for figure in figures), total(figure.slip for figure in figures)
    return Phase(name, seconds, latency, sum(one.late for one in figures), 1000 * slip.percentile(99), stalled)


async def _wait(given: argparse.Namespace, until_close: bool) -> float | None:
    """The phase; s until the server ended a session, if it says so."""
    now = asyncio.get_running_loop().time
    begun, before = now(), metrics.value(await _look(given), "rivulet_sessions")
    while (spent := now() - begun) < given.seconds:
        await asyncio.sleep(min(LOOK_EVERY, given.seconds - spent))
        inside = metrics.value(await _look(given), "rivulet_sessions")
        if until_close and before is not None and inside is not None and inside < before:
            return now() - begun
    return None


async def _look(given: argparse.Namespace) -> metrics.Scrape:
    return await asyncio.to_thread(scrape, given.url, given.token)


def summary(phases: Sequence[Phase]) -> dict[str, Any]:
    """Both kinds of phase, each together, and B over A."""
    kinds = {name: total(phase.latency for phase in phases if phase.name == name) for name in ("A", "B")}
    both = {name: histogram.spread() for name, histogram in kinds.items()}
    return {
        **both,
        "ratio_p50": both["B"]["p50_ms"] / both["A"]["p50_ms"],
        "ratio_p99": both["B"]["p99_ms"] / both["A"]["p99_ms"],
        "phases": [phase.row() for phase in phases],
    }


def table(figures: dict[str, Any]) -> str:
    """Phase after phase, and what came of it."""
    names = {
        "phase": "phase", "s": "seconds", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms", "max": "max_ms",
        "late": "late_chunks", "chunks": "chunks", "slip p99": "slip_p99_ms",
    }  # fmt: skip
    all_rows = [*figures["phases"], {"phase": "A", **figures["A"]}, {"phase": "B", **figures["B"]}]
    rows = [[report.cell(row.get(key)) for key in names.values()] for row in all_rows]
    said = f"the others: {figures['sessions'] - 1}, declared {figures['declared_ms']:.1f} ms; B over A: "
    lines = [report.grid([[*names], *rows]), said + f"p50 {figures['ratio_p50']:.3f}, p99 {figures['ratio_p99']:.3f}"]
    for stalled in (row["stalled"] for row in figures["phases"] if row["stalled"]):
        shown = {key: report.cell(value) for key, value in stalled.items()}
        lines.append(
            f"the stalled one: {shown['code']} {shown['error']} after {shown['ended_s']} s; hidden {shown['hidden_s']} s "
            f"(drained {shown['drained_s']} s, of which at the client {shown['client_s']} s)"
        )
    return "\n".join(lines + [f"FAILED {failure}" for failure in figures["failures"]])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    given = arguments(argv)
    try:
        if given.sessions < 2 or given.rounds < 1:
            raise ValueError(f"got {given.sessions} sessions and {given.rounds} rounds, expected at least 2 and 1")
        phases, failures, declared = asyncio.run(run(endless(given.model, given), given))
    except (OSError, ValueError) as error:
        print(f"clients.bench.stall: {error}", file=sys.stderr)
        return 1
    unended = ["the server let the stalled session be" for phase in phases if phase.stalled and not phase.stalled.ended]
    figures = {**summary(phases), "sessions": given.sessions, "model": given.model, "declared_ms": declared}
    figures |= {"failures": failures + unended, **circumstances()}
    print(table(figures))
    if given.json:
        report.write_json(given.json, figures)
    if figures["failures"]:
        return 1
    return 2 if given.check and not figures["ratio_p99"] <= given.most_ratio else 0


if __name__ == "__main__":
    sys.exit(main())
