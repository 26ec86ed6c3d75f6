"""Latency of the `gst-demucs` protocol, measured by a client that behaves as GStreamer's `demucs` element does.

    python -m clients.bench.gst --url ws://127.0.0.1:8000 --model htdemucs --chunk-duration 3000 --overlap 0.25 --seconds 120

All that is wanted is in the query (`rate`, `chunk-duration`, `overlap`, `model-name`); float32 stereo goes up in buffers of
a live source, each when its last sample would have been captured; the sources come back one after another in each message,
an empty message ends either way. The latency of a message is that of its first frame: its arrival minus the leaving of the
buffer that holds that frame (clients/bench/timeline.py). `declared` is the `latency` of `model_info`. The element takes any
path of the server's address, so `--path` is of no matter to ours.

Exit code 1: the session failed, or frames out differ from frames in. With `--check`, 2: a message came later than declared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from rivulet_client.codec import Ready, pack
from rivulet_client.handshake import CLOSE_TIMEOUT, MAX_SIZE, hang_up
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from clients.bench import options, report, sound
from clients.bench.circumstances import circumstances
from clients.bench.target import LOOP
from clients.bench.timeline import Arrival, Timeline, due, summary

PROTOCOL = "gst-demucs"
FRAME = 8  # bytes of a stereo frame of float32


@dataclass
class Heard:
    """A session's timeline, and `largest`: bytes of the largest message that came."""

    timeline: Timeline
    largest: int = 0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = options.parser("gst", __doc__)
    parser.add_argument("--path", default="/gst-demucs")
    parser.add_argument("--model", default="htdemucs", help="model-name of the query")
    parser.add_argument("--rate", type=int, default=44_100, help="Hz, 32000 to 48000")
    parser.add_argument("--chunk-duration", type=int, default=3000, help="ms")
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--seconds", type=float, default=120.0, help="of audio that counts")
    parser.add_argument("--warmup", type=float, default=0.0, help="seconds of audio before them that do not")
    parser.add_argument("--sessions", type=int, default=1, help="at once")
    parser.add_argument("--buffer-ms", type=float, default=10.0, help="of a live source")
    parser.add_argument("--buffer-frames", type=int, help="instead of --buffer-ms, as 1024")
    parser.add_argument("--check", action="store_true", help="exit 2 if the declared latency was not kept")
    return parser.parse_args(argv)


def address(given: argparse.Namespace) -> str:
    """The URL that the element would make of its properties."""
    url: str = given.url
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError(f"got the address {given.url!r}, expected one like ws://127.0.0.1:8000")
    path: str = given.path
    wanted = {"rate": given.rate, "chunk-duration": given.chunk_duration, "overlap": given.overlap}
    return urlunsplit((scheme, parts.netloc, path, urlencode({**wanted, "model-name": given.model}), ""))


def buffers(given: argparse.Namespace) -> tuple[int, list[bytes], int]:
    """Frames a buffer, the bytes of those that are played round and round, and how many buffers to send."""
    size = given.buffer_frames or max(1, round(given.rate * given.buffer_ms / 1000))
    count = -(-round((given.warmup + given.seconds) * given.rate) // size)
    if count < 1 or given.sessions < 1:
        raise ValueError(f"got {count} buffers in {given.sessions} sessions, expected at least one of each")
    pcm = sound.synthetic(min(LOOP, count * size / given.rate), given.rate, 2)
    return size, [pack(piece, "f32le") for piece in sound.packets(pcm, size, count)], count


async def run(given: argparse.Namespace) -> list[Heard]:
    """All sessions, at once."""
    size, data, count = buffers(given)
    heard = [Heard(Timeline(given.rate, size)) for _ in range(given.sessions)]
    await asyncio.gather(*(_session(given, one, data, count) for one in heard))
    return heard


async def _session(given: argparse.Namespace, heard: Heard, data: Sequence[bytes], count: int) -> None:
    timeline, now = heard.timeline, asyncio.get_running_loop().time
    try:
        socket = await _dial(given)
    except (OSError, EOFError, InvalidHandshake) as error:
        timeline.error = f"unreachable: {error or type(error).__name__}"
        return
    try:
        async with asyncio.timeout(given.timeout):
            timeline.ready = _model(json.loads(await socket.recv()), given)
        timeline.t0 = now()
        sender = asyncio.create_task(_send(socket, timeline, data, count))
        try:
            await _receive(socket, heard, len(timeline.ready.stems))
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    except (ValueError, TimeoutError) as error:
        timeline.error = str(error) or "no model_info came"
    except ConnectionClosed as closed:
        timeline.error = f"the connection ended before the empty message ({closed})"
    finally:
        timeline.finished = now()
        await hang_up(socket)


async def _dial(given: argparse.Namespace) -> ClientConnection:
    headers = {"Authorization": f"Bearer {given.token}"} if given.token else None
    return await dial(
        address(given), subprotocols=[Subprotocol(PROTOCOL)], compression=None, max_size=MAX_SIZE,
        open_timeout=given.timeout, close_timeout=CLOSE_TIMEOUT, additional_headers=headers,
    )  # fmt: skip


def _model(body: dict[str, Any], given: argparse.Namespace) -> Ready:
    """The first message, in the words of `stems.v1`.

    Raises:
        ValueError: it is a refusal, or not what the element takes.
    """
    if "error" in body:
        raise ValueError(f"refused: {body['error']}")
    info = body["model_info"]
    if type(info["latency"]) is not int or info["latency"] < 0:
        raise ValueError(f"got latency {info['latency']!r}, expected whole milliseconds")
    sources = tuple(info["sources"])
    return Ready("", info["model_name"], sources, given.rate, 2, "f32le", 0, float(info["latency"]))


async def _send(socket: ClientConnection, timeline: Timeline, data: Sequence[bytes], count: int) -> None:
    now = asyncio.get_running_loop().time
    for index in range(count):
        await asyncio.sleep(due(timeline, index) - now())
        timeline.sent.append(now())
        await socket.send(data[index % len(data)])
    await socket.send(b"")


async def _receive(socket: ClientConnection, heard: Heard, sources: int) -> None:
    timeline, now, told = heard.timeline, asyncio.get_running_loop().time, 0
    while message := await socket.recv():
        at = now()
        if isinstance(message, str):
            if "error" in (body := json.loads(message)):
                raise ValueError(body["error"])
            continue
        frames, rest = divmod(len(message), sources * FRAME)
        if rest or told + frames > timeline.samples_in:
            raise ValueError(
                f"got {len(message)} bytes for {sources} sources after {told} of {timeline.samples_in} frames"
            )
        heard.largest = max(heard.largest, len(message))
        timeline.arrivals.append(Arrival(told, frames, at))
        told += frames
    timeline.done = told


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    given = arguments(argv)
    try:
        address(given)
        heard = asyncio.run(run(given))
    except ValueError as error:
        print(f"clients.bench.gst: {error}", file=sys.stderr)
        return 1
    figures = summary([one.timeline for one in heard], given.warmup)
    size = heard[0].timeline.packet
    figures |= {"model": given.model, "rate": given.rate, "buffer_frames": size, "seconds": given.seconds}
    figures |= {"chunk_duration_ms": given.chunk_duration, "overlap": given.overlap, **circumstances()}
    figures["largest_message"] = max(one.largest for one in heard)
    print(report.table(figures))
    print(f"largest message {figures['largest_message']} bytes; buffers of {size} frames at {given.rate} Hz")
    if given.json:
        report.write_json(given.json, figures)
    if figures["failures"] or figures["samples_in"] != figures["samples_out"]:
        return 1
    return 2 if given.check and figures["late_chunks"] else 0


if __name__ == "__main__":
    sys.exit(main())
