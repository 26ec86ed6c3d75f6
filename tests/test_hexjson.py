"""The example protocol: 16-bit PCM in, `{speaker_id, audio: hex}` out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import serving
import websockets
import zoo

from streaming import wire


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running(serving.toy_registry()) as host:
        yield host


async def lines(socket: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        async for message in socket:
            found.append(json.loads(message))  # noqa: PERF401 - what came before a close with an error counts
    except websockets.ConnectionClosedError:
        pass  # the code is on the socket
    return found


async def test_two_tracks_come_back_as_long_as_what_went_in(host: str) -> None:
    pcm = np.rint(zoo.audio(1, 5001)[0].clip(-1, 1) * 32767).astype("<i2")
    async with websockets.connect(f"ws://{host}/separate?model=toy-delay&rate=16000") as socket:
        reading = asyncio.create_task(lines(socket))
        for at in range(0, 5001, 320):
            await socket.send(pcm[at : at + 320].tobytes())
        await socket.send(b"")
        told = await reading
        assert socket.close_code == 1000
    tracks = [
        b"".join(bytes.fromhex(line["audio"]) for line in told if line["speaker_id"] == speaker) for speaker in (0, 1)
    ]
    low, high = (np.frombuffer(track, "<i2").astype(int) for track in tracks)
    assert low.size == high.size == 5001
    assert np.abs(low + high - pcm).max() <= 1


@pytest.mark.parametrize(
    ("query", "said", "code"),
    [
        ("model=nope", "got model 'nope', this server has", "unknown_model"),
        ("model=toy-split&rate=fast", "got rate fast, expected a whole number", "bad_message"),
        ("", "got model 'speech', this server has", "unknown_model"),
    ],
)
async def test_refusals_are_told(host: str, query: str, said: str, code: str) -> None:
    async with websockets.connect(f"ws://{host}/separate?{query}") as socket:
        (line,) = await lines(socket)
        assert said in line["error"]
        assert socket.close_code == wire.CLOSE_CODES[code]
