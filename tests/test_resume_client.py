"""The Python client and a server process that is killed in mid-stream: another on the same port goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import rivulet_client
import serving
import zoo

from streaming.framing import Array

RATE = 16_000
PACKET = 320
SPEECH = Path(__file__).parent.parent / "models" / "embedded" / "speech" / "model.safetensors"
ENVIRONMENT = {"RIVULET_SECRET": "the same for both", "RIVULET_PRELOAD": '["speech"]', "RIVULET_DRAIN_S": "0.5"}
pytestmark = pytest.mark.skipif(not SPEECH.is_file(), reason="the embedded speech model is not there")


@contextmanager
def successor(host: str) -> Iterator[psutil.Process]:
    """Another server on the port of one that is gone."""
    port = host.rpartition(":")[2]
    command = [sys.executable, "-m", "server", "serve", "--port", port, "--log-level", "warning"]
    server = psutil.Popen(command, cwd=Path(__file__).parent.parent, env={**os.environ, **ENVIRONMENT})
    try:
        yield server
    finally:
        server.kill()
        server.wait(20)


async def talk(stream: rivulet_client.Stream, pcm: Array, live: bool) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    for at in range(0, pcm.shape[1], PACKET):
        if live:
            await asyncio.sleep(began + at / RATE - clock())
        await stream.send(pcm[:, at : at + PACKET])
    await stream.end()


async def separated(host: str, pcm: Array, live: bool, half: asyncio.Event, go: asyncio.Event) -> tuple[Array, int]:
    """`[S, T]`, and how often the connection was lost. Sets `half` when half of it has come, and waits there for `go`."""
    chunks: list[rivulet_client.Stems] = []
    url, wanted = f"ws://{host}", {"model": "speech", "rate": RATE, "channels": 1, "format": "f32le", "resume_s": 90.0}
    async with rivulet_client.connect(url, live=live, **wanted) as stream:  # type: ignore[arg-type]
        talking = asyncio.create_task(talk(stream, pcm, live))
        async for event in stream:
            if isinstance(event, rivulet_client.Stems):
                chunks.append(event)
            if stream.received > pcm.shape[1] // 2 and not half.is_set():
                half.set()
                await go.wait()
        await talking
        assert stream.received == stream.sent == pcm.shape[1]
    return np.concatenate([np.concatenate(list(chunk.stems.values())) for chunk in chunks], axis=1), stream.resumes


@pytest.mark.parametrize(("live", "how"), [(True, signal.SIGKILL), (False, signal.SIGKILL), (True, signal.SIGTERM)])
async def test_a_server_that_dies_is_not_heard(live: bool, how: signal.Signals) -> None:
    """Stems are contiguous by the client's own check (tests/test_client.py); here, that they are the right ones."""
    pcm = 0.3 * zoo.audio(1, (8 if live else 90) * RATE)
    half, go = asyncio.Event(), asyncio.Event()
    with serving.process(**ENVIRONMENT) as (host, server):
        running = asyncio.create_task(separated(host, pcm, live, half, go))
        await asyncio.wait_for(half.wait(), 60)
        if live:
            go.set()
        server.send_signal(how)
        await asyncio.to_thread(server.wait, 30)
        go.set()
        with successor(host):
            got, resumes = await asyncio.wait_for(running, 120)
            whole, none = await separated(host, pcm, False, asyncio.Event(), go)
    assert (resumes, none) == (1, 0)
    assert got.shape == whole.shape == (2, pcm.shape[1])
    # Not equal: cumulative norms remember more than the seconds that are replayed. One sample out of place would be -3 dB.
    assert ((got - whole) ** 2).sum() < 0.01 * (whole**2).sum()
