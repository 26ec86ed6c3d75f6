"""What is left behind by clients that vanish: memory, threads, descriptors, sessions.

    python -m clients.bench.churn --url ws://127.0.0.1:8000 --cycles 1000 --model speech

A cycle: connect, start, stream a moment (`--seconds-each`), then cut the TCP connection without a word; `--concurrency` at
a time. Every 50 cycles it waits until the server knows of no session (`/metrics`, 10 s at most), and `--rest` more, and
looks at its process: `--pid`, or what listens on the port of the URL on this machine. **KiB a cycle** is the slope of the
line of least squares through the memory of all looks after the first `--warmup` cycles, in which caches fill. Cycles that
the server refused are counted by code, and made up for.

Exit code 1: sessions remain, or cycles failed. With `--check`, 2: more than `--most-kib` KiB a cycle, or more threads or
descriptors at the end than after the warm-up (8 more are allowed).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections import Counter
from collections.abc import Sequence
from statistics import linear_regression
from typing import Any

import psutil

from clients.bench import metrics, options, report
from clients.bench.circumstances import circumstances
from clients.bench.door import Admitted, enter
from clients.bench.feed import Feed
from clients.bench.observe import MIB, Look, find, look, scrape
from clients.bench.session import Load
from clients.bench.target import endless

EVERY = 50  # cycles
SETTLE = 10.0  # s for the server to notice
SPARE = 8  # threads, or descriptors, more that are no leak
TRIES = 100  # refusals in a row after which it gives up


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = options.watched(options.paced(options.parser("churn", __doc__)))
    parser.add_argument("--model", default="speech")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--warmup", type=int, default=200, help="cycles that do not count for the slope")
    parser.add_argument("--every", type=int, default=EVERY, help="cycles from look to look")
    parser.add_argument("--seconds-each", type=float, default=0.3)
    parser.add_argument("--rest", type=float, default=1.2, help="s from the last session's end to a look")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--most-kib", type=float, default=4.0, help="a cycle, for --check")
    parser.add_argument("--check", action="store_true", help="exit 2 if something is left behind")
    return parser.parse_args(argv)


async def run(load: Load, given: argparse.Namespace) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The looks, the first before any cycle, and how many refusals and failures there were by code."""
    process, places = find(given.url, given.pid), asyncio.Semaphore(given.concurrency)
    refused: Counter[str] = Counter()
    rows = [sample(0, await settled(given, process))]
    while (done := rows[-1]["cycles"]) < given.cycles:
        more = min(given.every, given.cycles - done)
        await asyncio.gather(*(_cycle(load, given.seconds_each, places, refused) for _ in range(more)))
        rows.append(sample(done + more, await settled(given, process)))
    return rows, refused


async def _cycle(load: Load, seconds: float, places: asyncio.Semaphore, refused: Counter[str]) -> None:
    async with places:
        inside = await _entered(load, seconds, refused)
        feed = Feed(inside.socket, inside.ready, load)
        await asyncio.sleep(seconds)
        if feed.failure:
            refused["failed"] += 1
        inside.socket.transport.abort()
        await feed.leave()


async def _entered(load: Load, seconds: float, refused: Counter[str]) -> Admitted:
    for _ in range(TRIES):
        answer = await enter(load)
        if isinstance(answer, Admitted):
            return answer
        refused[answer.code] += 1
        await asyncio.sleep(seconds)
    raise RuntimeError(f"refused {TRIES} times in a row: {dict(refused)}")


async def settled(given: argparse.Namespace, process: psutil.Process | None) -> Look:
    """The server when no session is open, or when that takes too long."""
    now = asyncio.get_running_loop().time
    end = now() + SETTLE
    while True:
        seen = await asyncio.to_thread(scrape, given.url, given.token)
        if not metrics.value(seen, "rivulet_sessions") or now() > end:
            await asyncio.sleep(given.rest)
            return await look(given.url, given.token, process)
        await asyncio.sleep(0.1)


def sample(cycles: int, seen: Look) -> dict[str, Any]:
    """A row: what the server holds after so many cycles, None for what cannot be seen."""
    usage = seen.usage
    return {
        "cycles": cycles,
        "rss_mib": usage.rss / MIB if usage else None,
        "threads": usage.threads if usage else None,
        "files": usage.files if usage else None,
        "sessions": metrics.value(seen.scrape, "rivulet_sessions"),
        "tasks": metrics.value(seen.scrape, "rivulet_tasks"),
    }


def slope(rows: Sequence[dict[str, Any]], warmup: int) -> float:
    """KiB a cycle, by least squares over the looks from cycle `warmup` on; NaN for fewer than two of them."""
    points = [(row["cycles"], 1024 * row["rss_mib"]) for row in rows if row["cycles"] >= warmup and row["rss_mib"]]
    return linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else math.nan


def left(rows: Sequence[dict[str, Any]], warmup: int, most_kib: float) -> list[str]:
    """What was left behind, in words."""
    first, last = next((row for row in rows if row["cycles"] >= warmup), rows[-1]), rows[-1]
    kib = slope(rows, warmup)
    said = [f"{kib:.2f} KiB a cycle, expected at most {most_kib:g}"] if kib > most_kib else []
    grown = [key for key in ("threads", "files") if last[key] is not None and last[key] > (first[key] or 0) + SPARE]
    return said + [f"{last[key]} {key}, {first[key]} after {first['cycles']} cycles" for key in grown]


def table(figures: dict[str, Any]) -> str:
    """Look after look, and the slope."""
    names = {
        "cycles": "cycles", "RSS": "rss_mib", "threads": "threads", "descriptors": "files",
        "sessions": "sessions", "tasks": "tasks",
    }  # fmt: skip
    rows = [[report.cell(row[key]) for key in names.values()] for row in figures["looks"]]
    refused = ", ".join(f"{count} {code}" for code, count in figures["refused"].items()) or "none"
    said = (
        f"{report.cell(figures['kib_per_cycle'])} KiB a cycle after the first {figures['warmup']}; refused: {refused}"
    )
    return "\n".join([report.grid([[*names], *rows]), said, *(f"LEFT {line}" for line in figures["left"])])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    given = arguments(argv)
    try:
        if min(given.cycles, given.concurrency, given.every) < 1:
            raise ValueError("got --cycles, --concurrency or --every of 0 or less")
        rows, refused = asyncio.run(run(endless(given.model, given), given))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"clients.bench.churn: {error}", file=sys.stderr)
        return 1
    said = left(rows, given.warmup, given.most_kib)
    figures = {"cycles": given.cycles, "warmup": given.warmup, "kib_per_cycle": slope(rows, given.warmup), "left": said}
    figures |= {"model": given.model, "refused": dict(refused), "looks": rows, **circumstances()}
    print(table(figures))
    if given.json:
        report.write_json(given.json, figures)
    if rows[-1]["sessions"] or refused["failed"]:
        return 1
    return 2 if given.check and said else 0


if __name__ == "__main__":
    sys.exit(main())
