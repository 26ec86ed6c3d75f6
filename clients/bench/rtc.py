"""WebRTC against WebSocket on the same server: latency, where it comes from, and what a track costs.

    python -m clients.bench.rtc --url http://127.0.0.1:8000 --model music --seconds 30 --sessions 1 --json out/rtc.json

Both transports are fed the same sound in packets of 20 ms at 48 kHz, paced like a microphone, one after the other on the
same server. The latency is that of an output packet's (or chunk's) first sample: its arrival minus the leaving of the packet
that holds that sample. On WebRTC it has in it what the WebSocket has not: Opus both ways, the receive buffer, pacing; not
the player's jitter buffer, which `clients.bench.ear` has. The processor time of the server is its process's, if it runs on
this machine; of a track: what WebRTC's sessions took more than the WebSocket's, by output tracks.

Exit code 1: a session failed, or samples out differ from samples in. 2, with `--check`: p95 is more than 120 ms above the
WebSocket's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from rivulet_client.codec import Start, pack

from clients.bench import report, sound
from clients.bench.circumstances import circumstances
from clients.bench.observe import between, find, look
from clients.bench.options import parser as options
from clients.bench.peer import FRAME, RATE, Peer, Refused, Track, encoded
from clients.bench.session import Load, run_sessions
from clients.bench.target import LOOP, model_info
from clients.bench.timeline import percentile, spread, summary

MORE_MS = 120.0  # that WebRTC may take beyond the WebSocket
PARTS = ("jitter_ms", "buffer_ms", "encode_ms", "behind_ms")  # of the server's `media` messages


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    made = options("rtc", __doc__)
    made.set_defaults(url="http://127.0.0.1:8000")
    made.add_argument("--model", default="music")
    made.add_argument("--seconds", type=float, default=30.0, help="of audio that counts")
    made.add_argument("--warmup", type=float, default=3.0, help="seconds of audio before them that do not")
    made.add_argument("--sessions", type=int, default=1, help="at once, of either transport")
    made.add_argument("--check", action="store_true", help=f"exit 2 if p95 > the WebSocket's + {MORE_MS:g} ms")
    return made.parse_args(argv)


def latencies(track: Track, sent: Sequence[float], warmup: float) -> list[float]:
    """s, of every packet of an output after the warm-up. A place that was never sent (the tail of the model) is left out."""
    first = round(warmup * RATE)
    return [at - sent[sample // FRAME] for sample, at in track.arrivals if first <= sample < len(sent) * FRAME]


def figures(peer: Peer, done: int | None, warmup: float) -> dict[str, Any]:
    """One session over WebRTC."""
    sent, media, stats = peer.feed.sent, peer.of("media"), peer.of("stats")
    each = [latencies(track, sent, warmup) for track in peer.tracks]
    apart = [abs(a - b) for track in each[1:] for a, b in zip(each[0], track, strict=False)]
    told, went = done or 0, len(sent) * FRAME
    failure = None if done == went else f"{went} samples in, done says {done}"
    for track in peer.tracks:
        covered = len({sample for sample, _ in track.arrivals}) and max(sample for sample, _ in track.arrivals) + FRAME
        if failure is None and not told <= covered < told + 4 * FRAME:
            failure = f"{told} samples told, {covered} came as {track.name}"
    middle = {part: median(row[part] for row in media) for part in PARTS if media and part in media[0]}
    return {
        "declared_ms": peer.ready.get("latency_ms"),
        **spread([value for values in each for value in values]),
        "apart_p99_ms": 1000 * percentile(apart, 99),
        **middle,
        "framing_ms": 1000 * peer.ready.get("latency_samples", 0) / RATE,
        "compute_p50_ms": median(row["compute_p50_ms"] for row in stats) if stats else None,
        "kbit_s": [round(8 * track.bytes / 1000 / (len(sent) * FRAME / RATE)) for track in peer.tracks if sent],
        "samples_in": went,
        "samples_out": told,
        "failure": failure,
    }


async def webrtc(found: argparse.Namespace, pcm: sound.Array, outputs: int) -> list[dict[str, Any]]:
    """All sessions at once, from their offers to `done`."""
    packets = encoded(pcm)
    peers = [Peer(packets, outputs) for _ in range(found.sessions)]
    try:
        for peer in peers:
            await peer.start(found.url, {"type": "start", "model": found.model}, found.token, found.timeout)
        await asyncio.sleep(found.warmup + found.seconds)
        done = await asyncio.gather(*(peer.end() for peer in peers))
        return [figures(peer, samples, found.warmup) for peer, samples in zip(peers, done, strict=True)]
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))


async def websocket(found: argparse.Namespace, pcm: sound.Array) -> dict[str, Any]:
    """The same over WebSocket."""
    data = [pack(piece, "s16le") for piece in sound.packets(pcm, FRAME, pcm.shape[1])]
    start = Start(found.model, RATE, len(pcm), "s16le")
    count = round((found.warmup + found.seconds) * RATE) // FRAME
    url = found.url.replace("http", "ws", 1)
    return summary(
        await run_sessions(Load(url, start, FRAME, data, count, found.token, found.timeout), found.sessions),
        found.warmup,
    )


async def measured(found: argparse.Namespace) -> dict[str, Any]:
    """Both, one after the other, with the server's processor time."""
    info = model_info(found.url.replace("http", "ws", 1), found.model, found.token)
    pcm = sound.synthetic(LOOP, RATE, int(info["channels"]))
    process = find(found.url)
    looks = [await look(found.url, found.token, process)]
    socket = await websocket(found, pcm)
    looks.append(await look(found.url, found.token, process))
    each = await webrtc(found, pcm, len(info["sources"]))
    looks.append(await look(found.url, found.token, process))
    seen = [between(*pair) for pair in pairwise(looks)]
    more = None if seen[0].get("cpu_cores") is None else seen[1]["cpu_cores"] - seen[0]["cpu_cores"]
    tracks = found.sessions * len(info["sources"])
    pooled = {key: max(one[key] for one in each) for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "apart_p99_ms")}
    return {
        "model": found.model,
        "sessions": found.sessions,
        "tracks": tracks,
        "websocket": {
            **{key: socket[key] for key in ("declared_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms")},
            **seen[0],
        },
        "webrtc": {"declared_ms": each[0]["declared_ms"], **pooled, **seen[1]},
        "per_session": each,
        "more_p95_ms": pooled["p95_ms"] - socket["p95_ms"],
        "core_a_track": None if more is None else more / tracks,
        "failures": [*socket["failures"], *(one["failure"] for one in each if one["failure"])],
        **circumstances(),
    }


def table(told: dict[str, Any]) -> str:
    """Both transports, a line each; then where WebRTC's latency lies."""
    columns = {"declared": "declared_ms", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms", "max": "max_ms",
               "cores": "cpu_cores", "loop lag p99": "loop_lag_p99_ms"}  # fmt: skip
    rows = [["", *columns]]
    rows += [
        [name, *(report.cell(told[name].get(key)) for key in columns.values())] for name in ("websocket", "webrtc")
    ]
    one = told["per_session"][0]
    parts = {"packet": 20.0, "receive buffer": one.get("buffer_ms"), "framing": one["framing_ms"],
             "compute": one["compute_p50_ms"], "encode": one.get("encode_ms"), "pacing": one.get("behind_ms")}  # fmt: skip
    lines = [
        report.grid(rows),
        f"milliseconds; {told['sessions']} sessions of {told['model']}, {told['tracks']} tracks back",
    ]
    lines.append("of WebRTC's: " + ", ".join(f"{name} {report.cell(value)}" for name, value in parts.items()))
    lines.append(
        f"p95 {told['more_p95_ms']:+.1f} ms against the WebSocket; "
        f"tracks of a session apart by {one['apart_p99_ms']:.1f} ms (p99)"
    )
    if told["core_a_track"] is not None:
        lines.append(f"a track takes {100 * told['core_a_track']:.2f} % of a core more than over the WebSocket")
    return "\n".join(lines + [f"FAILED {failure}" for failure in told["failures"]])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    found = arguments(argv)
    gc.collect()
    gc.freeze()
    try:
        told = asyncio.run(measured(found))
    except (OSError, ValueError, Refused, TimeoutError) as error:
        print(f"clients.bench.rtc: {error}", file=sys.stderr)
        return 1
    print(table(told))
    if found.json:
        report.write_json(found.json, told)
    if told["failures"]:
        return 1
    return 2 if found.check and told["more_p95_ms"] > MORE_MS else 0


if __name__ == "__main__":
    sys.exit(main())
