"""What a client hears of a server that is killed in mid-stream and started again: nothing, but for a pause.

    python -m clients.bench.resume --model speech --seconds 20 --json out/resume.json

Starts `rivulet serve` itself, streams to it by the clock with the Python client, kills it with SIGKILL half-way, starts
another at once on the same port, and goes on. `away_s`: from the kill to the `ready` of the new process (mostly its start).
`rebuilt_s`: from there to the first new stems: the replay of the past that the model's state is rebuilt from, and all that
was waiting. `caught_up_s`: from there until stems are no later than declared again: the audio of the time away is worked off,
and live audio comes meanwhile. The stems are held against a session that nobody killed: `joint_db` is how far below the stems
the difference stays from the joint on.

Exit code 1: samples out differ from samples in, or a gap or repeat. With `--check`, 2: rebuilt later than 2 s of live time.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rivulet_client import Stems, Stream, connect

from clients.bench import report, sound
from clients.bench.circumstances import circumstances
from clients.bench.target import model_info

LIMIT_S = 2.0
Audio = NDArray[np.float32]


@dataclass
class Record:
    """One session: stems by their place, when they came, and when it went on with a new connection."""

    stems: list[Stems] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    resumed_at: float = math.nan
    rest_from: int = 0
    latency_s: float = 0.0

    @property
    def samples(self) -> int:
        return sum(stems.frames for stems in self.stems)

    def whole(self) -> Audio:
        return np.concatenate([np.stack(list(stems.stems.values())) for stems in self.stems], axis=2)


class Server:
    """`rivulet serve` on a port of its own, as often as it is started."""

    def __init__(self, model: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [sys.executable, "-m", "server", "serve", "--port", str(self.port), "--preload", model]
        self._command += ["--log-level", "error"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=Path(__file__).parents[2], env=os.environ)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def wait(self) -> None:
        """Returns when it is ready."""
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)


async def stream(url: str, model: str, pcm: Audio, rate: int) -> Record:
    """A paced session to its end."""
    record = Record()
    async with connect(url, model=model, rate=rate, channels=len(pcm), format="f32le", resume_s=120.0) as session:
        record.latency_s = session.ready.latency_ms / 1000
        watch = asyncio.create_task(_watch(session, record))
        sender = asyncio.create_task(_send(session, pcm, rate))
        async for event in session:
            if isinstance(event, Stems):
                record.stems.append(event)
                record.came.append(time.monotonic())
        await sender
        watch.cancel()
    return record


async def _watch(session: Stream, record: Record) -> None:
    while not session.resumes:
        await asyncio.sleep(0.005)
    record.resumed_at, record.rest_from = time.monotonic(), session.received


async def _send(session: Stream, pcm: Audio, rate: int) -> None:
    step, begun = rate // 100, time.monotonic()
    for index in range(0, pcm.shape[1], step):
        await asyncio.sleep(begun + (index + step) / rate - time.monotonic())
        await session.send(pcm[:, index : index + step])
    await session.end()


async def _killed(server: Server, after: float) -> float:
    """Kills it `after` seconds from now and starts it again; when that was."""
    await asyncio.sleep(after)
    await asyncio.to_thread(server.kill)
    at = time.monotonic()
    server.start()
    return at


async def measure(model: str, seconds: float) -> dict[str, Any]:
    """All figures."""
    server = Server(model)
    server.start()
    try:
        await asyncio.to_thread(server.wait)
        info = await asyncio.to_thread(model_info, server.url, model)
        rate, channels = int(info["rate"]), int(info["channels"])
        pcm = sound.synthetic(seconds, rate, channels)
        alone = await stream(server.url, model, pcm, rate)
        killing = asyncio.create_task(_killed(server, seconds / 2))
        record = await stream(server.url, model, pcm, rate)
        return _figures(record, alone, await killing, pcm.shape[1], rate)
    finally:
        server.kill()


def _figures(record: Record, alone: Record, killed: float, samples: int, rate: int) -> dict[str, Any]:
    joint = next(i for i, at in enumerate(record.came) if at > record.resumed_at)
    # Behind the clock of the stream: the arrival of a chunk less the capture of its first sample, by the first chunk's.
    late = [at - stems.start / rate for at, stems in zip(record.came, record.stems, strict=True)]
    usual = float(np.median(late[: joint or 1]))
    caught = next((i for i in range(joint, len(late)) if late[i] - usual < record.latency_s), -1)
    expected, got = alone.whole(), record.whole()
    at = record.stems[joint].start
    error = got[..., at:] - expected[..., at:]
    return {
        "away_s": record.resumed_at - killed,
        "rebuilt_s": record.came[joint] - record.resumed_at,
        "caught_up_s": record.came[caught] - record.resumed_at if caught >= 0 else math.nan,
        "joint_db": 10 * math.log10(float((error**2).sum()) / float((expected[..., at:] ** 2).sum()) + 1e-20),
        "samples_in": samples,
        "samples_out": record.samples,
        "contiguous": all(a.start + a.frames == b.start for a, b in zip(record.stems, record.stems[1:], strict=False)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="clients.bench.resume", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="speech")
    parser.add_argument("--seconds", type=float, default=40.0, help="of audio; the kill is half-way")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--check", action="store_true", help=f"exit 2 if rebuilt later than {LIMIT_S:g} s")
    options = parser.parse_args(argv)
    figures = {"model": options.model, **asyncio.run(measure(options.model, options.seconds)), **circumstances()}
    for name in ("away_s", "rebuilt_s", "caught_up_s", "joint_db", "samples_in", "samples_out", "contiguous"):
        value = figures[name]
        print(f"{name:12} {value:.3f}" if isinstance(value, float) else f"{name:12} {value}")
    if options.json:
        report.write_json(options.json, figures)
    if figures["samples_in"] != figures["samples_out"] or not figures["contiguous"]:
        return 1
    return 2 if options.check and not figures["rebuilt_s"] <= LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main())
