"""SIGTERM on a real process: nobody inside is hurt, nobody new is let in."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import httpx
import pytest
import serving
import zoo
from serving import start

END = json.dumps({"type": "end"})


async def next_text(peer: Any, kind: str) -> dict[str, Any]:
    """The next text message of this type; audio and others pass."""
    while True:
        message = await asyncio.wait_for(peer.recv(), 60)
        if isinstance(message, str) and json.loads(message)["type"] == kind:
            return dict(json.loads(message))


async def test_who_is_inside_finishes_and_who_comes_is_refused() -> None:
    pcm = zoo.audio(1, 32_000)
    with serving.process("--preload", "speech") as (host, process):
        async with serving.connect(host) as inside:
            await inside.send(start("speech"))
            await next_text(inside, "ready")
            await inside.send(pcm[:, :16_000].T.astype("<f4").tobytes())
            process.send_signal(signal.SIGTERM)
            assert (await next_text(inside, "draining"))["deadline_ms"] == 30_000
            _, texts, code = await serving.converse(host, start("speech"), [])
            assert (texts[0]["code"], code) == ("draining", 1012)
            ready = await asyncio.to_thread(httpx.get, f"http://{host}/readyz")
            assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
            await inside.send(pcm[:, 16_000:].T.astype("<f4").tobytes())
            await inside.send(END)
            assert await next_text(inside, "done") == {"type": "done", "samples": 32_000}
        await asyncio.to_thread(process.wait, 20)


@pytest.mark.parametrize("how", ["deadline", "second signal"])
async def test_who_stays_too_long_is_cut_off(how: str) -> None:
    seconds = "0.3" if how == "deadline" else "600"
    with serving.process("--preload", "speech", RIVULET_DRAIN_S=seconds) as (host, process):
        async with serving.connect(host) as inside:
            await inside.send(start("speech"))
            await next_text(inside, "ready")
            process.send_signal(signal.SIGTERM)
            await next_text(inside, "draining")
            if how == "second signal":
                process.send_signal(signal.SIGTERM)
            await serving.read_all(inside)
            assert inside.close_code == 1012
        await asyncio.to_thread(process.wait, 20)


async def test_with_nobody_inside_it_leaves_at_once() -> None:
    with serving.process("--preload", "speech") as (_, process):
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 20)
