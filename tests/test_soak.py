"""Minutes long: `make test-slow`. A server in a process of its own, so that its memory is its own."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import serving
import zoo

pytestmark = pytest.mark.slow
END = json.dumps({"type": "end"})


@pytest.mark.parametrize("minutes", [30])
async def test_memory_is_flat_over_half_an_hour_of_speech(minutes: int) -> None:
    """Hop by hop, as a live stream, but as fast as the machine goes. The second half may not hold more than the first."""
    second = zoo.audio(1, 16_000).T.astype("<f4").tobytes()
    held: list[float] = []
    with serving.process("--preload", "speech", RIVULET_MAX_AHEAD_S="100000") as (host, process):
        async with serving.connect(host) as peer:
            await peer.send(serving.start("speech"))

            async def speak() -> None:
                for _ in range(60 * minutes):
                    await peer.send(second)
                await peer.send(END)

            speaking = asyncio.create_task(speak())
            told = 0
            async for message in peer:
                if isinstance(message, bytes):
                    first, stems = serving.unpack(message)
                    assert first == told
                    told += stems.shape[2]
                    assert np.isfinite(stems).all()
                    if told // (16_000 * 60) > len(held):
                        held.append(process.memory_info().rss / 2**20)
                elif json.loads(message)["type"] == "done":
                    break
            await speaking
    assert told == 60 * minutes * 16_000
    slope = np.polyfit(np.arange(len(held) // 2), held[-(len(held) // 2) :], 1)[0]
    print(f"RSS {held[0]:.0f} to {held[-1]:.0f} MiB, {slope * 1024:.0f} KiB a minute over the second half")
    assert slope < 0.1
    assert held[-1] - held[len(held) // 2] < 5


async def test_fifty_sessions_of_speech_half_of_them_killed_the_others_as_if_alone() -> None:
    rng = np.random.default_rng(1)
    doomed = {int(index): int(rng.integers(1, 40)) for index in rng.permutation(50)[:25]}

    async def one(host: str, index: int, killed_at: int | None) -> np.ndarray | None:
        pcm = zoo.audio(1, 4 * 16_000, seed=index)
        async with serving.connect(host) as peer:
            await peer.send(serving.start("speech"))
            reading = asyncio.create_task(serving.read_all(peer))
            for number in range(40):
                if number == killed_at:
                    peer.transport.abort()
                    reading.cancel()
                    return None
                await peer.send(pcm[:, number * 1600 : (number + 1) * 1600].T.astype("<f4").tobytes())
                await asyncio.sleep(0)
            await peer.send(END)
            stems, texts = await reading
            assert texts[-1] == {"type": "done", "samples": 4 * 16_000}
            return stems

    with serving.process("--preload", "speech") as (host, process):
        together = await asyncio.gather(*(one(host, index, doomed.get(index)) for index in range(50)))
        worst = 0.0
        for index in range(50):
            if index not in doomed:
                alone = await one(host, index, None)
                worst = max(worst, float(np.abs(together[index] - alone).max()))
        threads = process.num_threads()
        print(f"25 survivors, largest difference to running alone {worst:.1e}, {threads} threads")
        assert worst < 1e-5
