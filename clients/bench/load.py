"""How many sessions a server carries, and what its door does then; from outside, paced like microphones.

    python -m clients.bench.load --url ws://127.0.0.1:8000 --model speech --hold 10 --hold-at-max 60 --json out/load.json

Sessions come `--step` at a time; those inside go on. After each step all latencies of `--hold` seconds are counted (that of
a chunk: its arrival minus the leaving of the packet that holds its first sample). The ramp ends when a session is refused,
when one breaks its promise (its p99 is above the latency that the server declared to it), or at `--most`. Several `--model`
take turns. With `--hold-at-max` all who were let in then stay that long; if the door had refused one, somebody knocks every
5 s, and has to be refused too.

The **knee** is the largest step up to which every session kept its promise. `slip`: how late this client itself sent;
where it is more than a few ms, use `--processes`, or another machine. `utilisation` is the server's word for the last second
of a window, `computing` the seconds of model runs a second over all of it.

Exit code 1: a session failed, or samples out differ from samples in. With `--check`, 2: a promise was broken, a refusal took
more than 50 ms, or somebody was let in while the others stayed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.bench import load_report, options, report
from clients.bench.circumstances import circumstances
from clients.bench.crew import crew
from clients.bench.observe import Look, find, look
from clients.bench.ramp import Plan, climb, knee, session_row, stay
from clients.bench.session import Load
from clients.bench.target import endless

REFUSAL_MS = 50.0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = options.watched(options.paced(options.parser("load", __doc__)))
    parser.add_argument(
        "--model", action="append", help="may be repeated: sessions take them in turn (default: speech)"
    )
    parser.add_argument("--step", type=int, default=1, help="sessions more at a time")
    parser.add_argument("--settle", type=float, default=2.0, help="s after a step that do not count")
    parser.add_argument("--hold", type=float, default=10.0, help="s of a step that count")
    parser.add_argument("--most", type=int, default=1000, help="sessions at which the ramp ends anyway")
    parser.add_argument("--hold-at-max", type=float, default=0.0, help="s that all stay after the ramp")
    parser.add_argument("--processes", type=int, default=1, help="that feed the sessions")
    parser.add_argument("--plot", type=Path, help="PNG file: latency and load against sessions")
    parser.add_argument("--check", action="store_true", help="exit 2 if a promise was broken")
    return parser.parse_args(argv)


async def measure(loads: Sequence[Load], given: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    process = find(given.url, given.pid)
    plan = Plan(given.step, given.settle, given.hold, given.most)

    async def now() -> Look:
        return await look(given.url, given.token, process)

    async with crew(loads, given.processes) as feeders:
        print(load_report.heading(), flush=True)
        rows = await climb(feeders, len(loads), plan, now, lambda row: print(load_report.line(row), flush=True))
        held = None
        if given.hold_at_max and rows[-1]["sessions"]:
            held = await stay(feeders, loads if rows[-1]["refusal"] else [], given.hold_at_max, now)
        ended = [session_row(figures) for figures in await feeders.finish()]
    return summary(rows, held, ended)


def summary(rows: list[dict[str, Any]], held: dict[str, Any] | None, ended: list[dict[str, Any]]) -> dict[str, Any]:
    """The knee, the door and the account beside the rows."""
    refusal = rows[-1]["refusal"]
    return {
        "knee": knee(rows),
        "door": {"admitted": rows[-1]["sessions"], "first_refusal": refusal},
        "steps": rows,
        "hold": held,
        "samples_in": sum(one["samples_in"] for one in ended),
        "samples_out": sum(one["samples_out"] for one in ended),
        "failures": [one["failure"] for one in ended if one["failure"]],
    }


def broken(figures: dict[str, Any]) -> list[str]:
    """What the server did not do as it should."""
    windows = [*figures["steps"], *([figures["hold"]] if figures["hold"] else [])]
    knocks = figures["hold"]["knocks"] if figures["hold"] else []
    refusals = [row["refusal"] for row in figures["steps"] if row["refusal"]] + [one for one in knocks if one["code"]]
    slow = max((refusal["ms"] for refusal in refusals), default=0.0)
    late = [
        f"{row['sessions']} sessions: p99 {row['worst_p99_ms']:.1f} of declared {row['worst_declared_ms']:.1f} ms"
        for row in windows
        if not row["kept"]
    ]
    late += [f"a refusal took {slow:.1f} ms, expected at most {REFUSAL_MS:g}"] if slow > REFUSAL_MS else []
    let_in = figures["hold"]["let_in"] if figures["hold"] else 0
    return late + ([f"{let_in} were let in after a refusal, while all others stayed"] if let_in else [])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    given = arguments(argv)
    try:
        if min(given.step, given.processes, given.most) < 1 or given.hold <= 0:
            raise ValueError("got --step, --processes, --most or --hold of 0 or less")
        models = given.model or ["speech"]
        loads = [endless(model, given) for model in models]
        figures = asyncio.run(measure(loads, given))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"clients.bench.load: {error}", file=sys.stderr)
        return 1
    figures = {"models": models, "packet_ms": given.packet_ms, "latency_asked_ms": given.latency_ms, **figures}
    figures |= {"hold_s": given.hold, "processes": given.processes, **circumstances()}
    print(load_report.closing(figures))
    if given.json:
        report.write_json(given.json, figures)
    if given.plot:
        load_report.plot(given.plot, figures)
    if figures["failures"] or figures["samples_in"] != figures["samples_out"] or not figures["door"]["admitted"]:
        return 1
    said = broken(figures)
    print("\n".join(f"BROKEN {line}" for line in said), end="\n" if said else "")
    return 2 if given.check and said else 0


if __name__ == "__main__":
    sys.exit(main())
