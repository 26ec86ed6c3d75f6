"""End-to-end latency of every chunk, measured from outside against any `stems.v1` server.

    python -m clients.bench.latency --url ws://127.0.0.1:8000 --model music --seconds 30 --sessions 2 --json out.json

The client is paced like a microphone: packet `i` leaves when its last sample would have been captured, by an absolute
schedule on a monotonic clock. The latency of an output chunk is that of its first sample: its arrival minus the leaving of
the packet that holds that sample, network and all (clients/bench/timeline.py has this and `rtf` in full). The first
`--warmup` seconds of each stream are played but not counted.

Exit code 1: a session failed, or samples out differ from samples in. With `--check`, 2: p99 is more than 15 ms (the
network, and this client) above the declared latency. A large `slip` (the client sent late) means that the machine that
measures was too busy, and the figures are worth little.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rivulet_client.codec import pack

from clients.bench import report, sound
from clients.bench.circumstances import circumstances
from clients.bench.options import paced
from clients.bench.options import parser as made
from clients.bench.session import Load, run_sessions
from clients.bench.target import LOOP, asked, model_info
from clients.bench.timeline import Timeline, summary

TOLERANCE_MS = 15.0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = paced(made("latency", __doc__))
    parser.add_argument("--model", default="music")
    parser.add_argument("--seconds", type=float, default=30.0, help="of audio that counts")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds of audio before them that do not")
    parser.add_argument("--sessions", type=int, default=1, help="at once")
    parser.add_argument("--rate", type=int, help="Hz; that of --audio, or else the model's own if not given")
    parser.add_argument("--channels", type=int, choices=(1, 2), help="the model's own if not given")
    parser.add_argument("--plot", type=Path, help="PNG file for latency over time and its histogram")
    parser.add_argument("--check", action="store_true", help=f"exit 2 if p99 > declared + {TOLERANCE_MS:g} ms")
    return parser.parse_args(argv)


def prepare(options: argparse.Namespace) -> Load:
    """Everything that can be made before the clock runs, down to the bytes of each packet."""
    pcm, rate, channels = None, options.rate, options.channels
    if options.audio:
        pcm, own = sound.load(options.audio)
        if rate not in (None, own):
            raise ValueError(f"got --rate {rate}, but {options.audio} has {own} Hz")
        rate = own
    if rate is None or channels is None:
        model = model_info(options.url, options.model, options.token)
        rate, channels = rate or model["rate"], channels or model["channels"]
    packet = max(1, round(rate * options.packet_ms / 1000))
    count = -(-round((options.warmup + options.seconds) * rate) // packet)
    if count < 1 or options.sessions < 1:
        raise ValueError(f"got {count} packets in {options.sessions} sessions, expected at least one of each")
    if pcm is None:
        pcm = sound.synthetic(min(LOOP, count * packet / rate), rate, channels)
    data = [pack(piece, options.format) for piece in sound.packets(sound.fit(pcm, channels), packet, count)]
    start = asked(options, options.model, rate, channels)
    return Load(options.url, start, packet, data, count, options.token, options.timeout)


def measure(load: Load, sessions: int) -> list[Timeline]:
    """The sessions, with the collector of garbage off: its pauses would be counted as the server's."""
    gc.collect()
    gc.disable()
    try:
        return asyncio.run(run_sessions(load, sessions))
    finally:
        gc.enable()


def _circumstances(load: Load, options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on beside the server."""
    start = load.start
    return {
        "model": start.model,
        "rate": start.rate,
        "channels": start.channels,
        "format": start.format,
        "packet_ms": 1000 * load.packet / start.rate,
        "seconds": options.seconds,
        "warmup_s": options.warmup,
        "latency_asked_ms": options.latency_ms,
        "audio": options.audio.name if options.audio else "synthetic",
        **circumstances(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    options = arguments(argv)
    try:
        load = prepare(options)
    except (OSError, ValueError) as error:
        print(f"clients.bench.latency: {error}", file=sys.stderr)
        return 1
    timelines = measure(load, options.sessions)
    figures = {**summary(timelines, options.warmup), **_circumstances(load, options)}
    print(report.table(figures))
    if options.json:
        report.write_json(options.json, figures)
    if options.plot:
        report.plot(options.plot, timelines, figures, options.warmup)
    if figures["failures"] or figures["samples_in"] != figures["samples_out"]:
        return 1
    if options.check and not figures["p99_ms"] <= figures["declared_ms"] + TOLERANCE_MS:
        print(f"p99 {figures['p99_ms']:.1f} ms is not within {figures['declared_ms']:.1f} + {TOLERANCE_MS:g} ms")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
