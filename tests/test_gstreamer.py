"""The `gst-demucs` protocol, message for message as GStreamer's element speaks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import serving
import streams
import websockets
import zoo

from models import toys
from server.gstreamer import LARGEST
from streaming.framing import Framing

QUERY = {"rate": 44_100, "chunk-duration": 3000, "overlap": 0.25, "model-name": "stereo"}
STEREO = toys.Split(replace(toys._spec("stereo", Framing(1600, 1600), channels=2), rate=44_100))


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running(serving.toy_registry(STEREO)) as host:
        yield host


def connect(host: str, path: str = "/gst-demucs", **change: Any) -> Any:
    query = "&".join(f"{key}={value}" for key, value in {**QUERY, **change}.items() if value is not None)
    return websockets.connect(
        f"ws://{host}{path}?{query}",
        subprotocols=[websockets.Subprotocol("gst-demucs")],
        compression=None,
        max_size=1 << 20,
    )


async def read(socket: Any, sources: int) -> np.ndarray:
    """All audio until the empty message, `[S, T, 2]`, split as the element splits it: by the number of sources."""
    parts = []
    while True:
        message = await socket.recv()
        assert isinstance(message, bytes)
        assert len(message) <= LARGEST
        if not message:
            return np.concatenate(parts, axis=1) if parts else np.zeros((sources, 0, 2))
        parts.append(np.frombuffer(message, "<f4").reshape(sources, -1, 2))


@pytest.mark.parametrize("path", ["/gst-demucs", "/"])
@pytest.mark.parametrize("length", [0, 1, 4409, 4410, 4411, 200_001])
async def test_frames_out_equal_frames_in(host: str, path: str, length: int) -> None:
    pcm = zoo.audio(2, length)
    async with connect(host, path) as socket:
        assert socket.subprotocol == "gst-demucs"
        info = json.loads(await socket.recv())["model_info"]
        assert info["sources"] == ["low", "high"]
        assert info["model_name"] == "stereo"
        assert type(info["latency"]) is int
        reading = asyncio.create_task(read(socket, 2))
        for part in streams.chop(pcm, [1000, 7, 4096]):
            if part.shape[1]:
                await socket.send(part.T.astype("<f4").tobytes())
        await socket.send("text is ignored")
        await socket.send(b"")
        stems = await reading
        assert stems.shape == (2, length, 2)
        np.testing.assert_allclose(stems.sum(axis=0).T, pcm, atol=1e-6)
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()


async def test_a_mono_model_comes_out_on_both_channels(host: str) -> None:
    pcm = zoo.audio(2, 5000)
    async with connect(host, **{"model-name": "toy-split"}) as socket:
        await socket.recv()
        reading = asyncio.create_task(read(socket, 2))
        await socket.send(pcm.T.astype("<f4").tobytes())
        await socket.send(b"")
        stems = await reading
    assert stems.shape == (2, 5000, 2)
    np.testing.assert_array_equal(stems[..., 0], stems[..., 1])
    assert np.abs(stems).max() > 0.1


async def test_the_declared_latency_is_the_promise_in_whole_milliseconds(host: str) -> None:
    async with connect(host) as socket:
        latency = json.loads(await socket.recv())["model_info"]["latency"]
    async with serving.connect(host) as socket:
        await socket.send(serving.start("stereo", rate=44_100, channels=2))
        assert 0 <= latency - json.loads(await socket.recv())["latency_ms"] <= 1
    assert latency < 9000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 16_000}, "got rate '16000' in the query, expected a whole number from 32000 to 48000"),
        ({"rate": None}, "got rate None"),
        ({"chunk-duration": 99}, "got chunk-duration '99'"),
        ({"overlap": 1.0}, "got overlap '1.0' in the query, expected a number from 0 to below 1"),
        ({"overlap": "nan"}, "got overlap 'nan'"),
        ({"model-name": "nope"}, "got model 'nope', this server has"),
        ({"model-name": None}, "got no model-name"),
    ],
)
async def test_refusals_come_as_an_error_before_any_audio(host: str, change: dict[str, Any], said: str) -> None:
    async with connect(host, **change) as socket:
        assert said in json.loads(await socket.recv())["error"]
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()


async def test_half_a_frame_is_refused(host: str) -> None:
    async with connect(host) as socket:
        await socket.recv()
        await socket.send(bytes(7))
        assert "multiple of 8" in json.loads(await socket.recv())["error"]
