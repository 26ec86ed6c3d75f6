"""What happens to the server process, and what those inside see of it: signals, kills, clocks that jump."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import serving
import websockets
import zoo
from faults import END, RATE, go_on, packets, split
from fuzz.target import Target, started
from serving import connect, start

from streaming.framing import Array

INSIDE = 8
SECONDS = 3


async def in_mid_stream(host: str, seed: int, go: asyncio.Event) -> tuple[Array, Array, list[str], int]:
    """A session that is half-way when `go` comes and then goes on: what it sent, what came back, and how it ended."""
    pcm = zoo.audio(1, SECONDS * RATE, seed)
    async with connect(host) as peer:
        await peer.send(start("toy-split"))
        reading = asyncio.create_task(serving.read_all(peer))
        for number, packet in enumerate(packets(pcm)):
            if number == 5 * SECONDS:
                await go.wait()
            await peer.send(packet)
            await asyncio.sleep(0.02)
        await peer.send(END)
        stems, texts = await reading
        assert stems is not None
        return pcm, stems, [text["type"] for text in texts], peer.close_code or 0


async def test_sigterm_under_load_lets_all_finish_refuses_newcomers_and_exits_with_0(tmp_path: Path) -> None:
    with started(tmp_path, RIVULET_DRAIN_S="60") as server:
        host, go = f"127.0.0.1:{server.port}", asyncio.Event()
        sessions = [asyncio.create_task(in_mid_stream(host, seed, go)) for seed in range(INSIDE)]
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(server.sessions) == INSIDE
        server.process.send_signal(signal.SIGTERM)
        for _ in range(5):
            _, (error, *_), code = await serving.converse(host, start("toy-split"), [END])
            assert (error["code"], code) == ("draining", 1012)
        go.set()
        for pcm, stems, kinds, code in await asyncio.gather(*sessions):
            np.testing.assert_allclose(stems, split(pcm), atol=1e-6)
            assert [kind for kind in kinds if kind != "stats"] == ["ready", "draining", "done"]
            assert code == 1000
        assert await asyncio.to_thread(server.process.wait, 20) == 0
        assert not server.complaints()


async def test_after_kill_9_the_same_port_serves_at_once_and_the_session_goes_on(tmp_path: Path) -> None:
    pcm, secret = zoo.audio(1, SECONDS * RATE), {"RIVULET_SECRET": "of both, and of 32 bytes or more"}
    with started(tmp_path, **secret) as server:
        stems, token = await until_killed(server, pcm)
    with started(tmp_path, port=server.port, **secret) as server:
        host = f"127.0.0.1:{server.port}"
        rest = await go_on(host, token, stems.shape[2], pcm)
        np.testing.assert_allclose(np.concatenate((stems, rest), axis=2), split(pcm), atol=1e-6)
        assert not server.complaints()


async def until_killed(server: Target, pcm: Array) -> tuple[Array, str]:
    """What came of a stream whose server is killed when it is half-way, and the newest token."""
    parts: list[Array] = []
    async with connect(f"127.0.0.1:{server.port}") as peer:
        await peer.send(start("toy-split"))
        token = str(json.loads(await peer.recv())["resume"])
        for packet in packets(pcm, 0, pcm.shape[1] // 2):
            await peer.send(packet)
        with pytest.raises(websockets.ConnectionClosedError):
            while True:
                if isinstance(message := await peer.recv(), bytes):
                    parts.append(serving.unpack(message)[1])
                    if len(parts) == 3:
                        server.process.kill()
                else:
                    token = json.loads(message).get("resume", token)
        assert peer.close_code == 1006
    return np.concatenate(parts, axis=2), token


@pytest.mark.parametrize("hours", [1, -1, 24 * 365])
async def test_a_wall_clock_that_jumps_touches_no_audio_and_tokens_follow_it(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """A token's two minutes are of the wall clock, which all servers of one secret share; nothing else goes by it."""
    pcm, right, ahead = zoo.audio(1, SECONDS * RATE), time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: right() + ahead[0])
    with serving.running(serving.toy_registry(), idle_timeout_s=20) as host:
        async with connect(host) as peer:
            await peer.send(start("toy-split"))
            before = json.loads(await peer.recv())["resume"]
            reading = asyncio.create_task(serving.read_all(peer))
            for number, packet in enumerate(packets(pcm)):
                ahead[0] = 3600.0 * hours * (number >= 5 * SECONDS)
                await peer.send(packet)
                await asyncio.sleep(0.05)
            await peer.send(END)
            stems, texts = await reading
            assert (texts[-1], peer.close_code) == ({"type": "done", "samples": pcm.shape[1]}, 1000)
        np.testing.assert_allclose(stems, split(pcm), atol=1e-6)
        stats = [text for text in texts if text["type"] == "stats"]
        assert all(abs(text["lag_ms"]) < 60_000 for text in stats)
        await go_on(host, stats[-1]["resume"], 0, pcm)
        _, (first, *_), code = await serving.converse(host, resume(before), [END])
        assert (first["type"], code) == (("error", 4426) if hours > 0 else ("ready", 1000))


def resume(token: str) -> str:
    return json.dumps({"type": "resume", "token": token, "received": 0})
