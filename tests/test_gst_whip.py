"""GStreamer sends by WHIP and hears by WHEP: webrtcbin of the system's GStreamer (1.22 here), in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rtc
import serving
from rtc import FRAME, RATE, level

from server.auth import digest
from server.config import Key
from streaming.framing import Array

PYTHON, SCRIPT = "/usr/bin/python3", str(Path(__file__).parent / "gst_whip.py")
NAME = "a-name-that-nobody-guesses"
KEY = "rk_" + "a" * 40


def missing() -> str | None:
    """What the tests are skipped for."""
    elements = "webrtcbin", "nicesrc", "dtlsenc", "srtpenc", "opusenc", "rtpopuspay"
    look = f"""import gi
for part in ("Gst", "GstWebRTC", "GstSdp"): gi.require_version(part, "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC
Gst.init(None)
print(",".join(one for one in {elements} if Gst.ElementFactory.find(one) is None))"""
    try:
        done = subprocess.run([PYTHON, "-c", look], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return f"needs {PYTHON}"
    if done.returncode:
        return f"needs GStreamer for the system's Python: {done.stderr.strip().splitlines()[-1]}"
    return f"needs GStreamer's {done.stdout.strip()}" if done.stdout.strip() else None


REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running({**serving.toy_registry(), **rtc.FOUR}) as host:
        yield host


class Gst:
    """The process, and the lines that it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def word(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 60))
        return said

    async def connected(self) -> dict[str, Any]:
        """Its offer, and the answer that it took."""
        answered = await self.word()
        assert answered["status"] == 201, answered["text"]
        assert await self.word() == {"state": "connected"}
        return answered

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


@asynccontextmanager
async def gst(role: str, url: str, **options: Any) -> AsyncIterator[Gst]:
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(
        PYTHON, SCRIPT, role, url, json.dumps(options), limit=1 << 20, **pipes
    )
    try:
        yield Gst(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def read(folder: Path) -> dict[str, Array]:
    """`[2, T]` by mid."""
    heard = {}
    for path in sorted(folder.glob("*.wav")):
        with wave.open(str(path)) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
        heard[path.stem] = pcm.T.astype(np.float32) / 32768
    return heard


async def relay(host: str, folder: Path, tracks: int, query: str, **sends: Any) -> tuple[dict[str, Array], int]:
    """What the listener heard of what the sender sent: of how many packets. Both are GStreamer."""
    path = f"whep/{NAME}" + ("?stem=mix" if tracks == 1 else "")
    async with gst("whip", f"http://{host}/whip?name={NAME}&{query}", seconds=2, **sends) as sender:
        await sender.connected()
        ear_ = gst("whep", f"http://{host}/{path}", tracks=tracks, seconds=20, folder=str(folder))
        async with ear_ as ear:
            await ear.connected()
            sender.go()
            account = await sender.word()
            assert account["deleted"] == 200
            heard = await ear.word()
    packets: int = account["packets"]
    assert packets > 80
    assert set(heard["samples"].values()) == {packets * FRAME}
    return read(folder), packets


@pytest.mark.parametrize("red", [False, True], ids=["plain", "offers red, ulpfec and nack"])
async def test_a_tone_is_separated_and_nothing_of_it_lost(host: str, tmp_path: Path, red: bool) -> None:
    heard, _ = await relay(host, tmp_path, 2, "model=toy-split", red=red)
    low, high = heard.values()
    assert level(low[:, RATE // 2 : RATE + RATE // 2], 440) == pytest.approx(0.05, abs=0.003)
    assert level(high[:, RATE // 2 : RATE + RATE // 2], 440) == pytest.approx(0.15, abs=0.005)
    # The first 20 ms apart, in which encoders begin, it never stops: the least peak of any 10 ms.
    whole = np.abs(high[0, FRAME : -2 * FRAME]).reshape(-1, FRAME // 2).max(axis=1)
    assert whole.min() > 0.12


async def test_a_stereo_file_comes_out_as_the_stems_of_its_session(host: str, tmp_path: Path) -> None:
    """Left and right are other tones; the model's stems are left, right, half of both, nothing."""
    time = np.arange(20 * RATE) / RATE  # it plays while the others connect
    pcm = 0.2 * np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 660 * time)], axis=1)
    with wave.open(str(tmp_path / "sent"), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes((pcm * 32768).astype("<i2").tobytes())
    heard, _ = await relay(host, tmp_path, 4, "model=four", wav=str(tmp_path / "sent"))
    middle = slice(RATE // 2, RATE + RATE // 2)
    told = [
        [level(one[channel : channel + 1, middle], hertz) for channel, hertz in ((0, 440), (1, 660))]
        for one in heard.values()
    ]
    assert np.array(told) == pytest.approx(np.array([[0.2, 0], [0, 0.2], [0.1, 0.1], [0, 0]]), abs=0.01)


async def test_one_m_line_is_the_mix(host: str, tmp_path: Path) -> None:
    heard, _ = await relay(host, tmp_path, 1, "model=toy-split")
    (mix,) = heard.values()
    assert level(mix[:, RATE // 2 : RATE + RATE // 2], 440) == pytest.approx(0.2, abs=0.006)


async def test_the_session_holds_every_sample_of_every_packet_and_ends_with_delete(host: str) -> None:
    """Heard by aiortc too, whose packets are counted: the same session time, to the sample."""
    async with gst("whip", f"http://{host}/whip?name={NAME}&model=toy-split", seconds=1) as sender:
        answered = await sender.connected()
        async with rtc.Client(host, None, 1, data=False) as ear:
            headers = {"Content-Type": "application/sdp"}
            response = await ear.http.post(f"/whep/{NAME}", content=await ear.offer(), headers=headers)
            await ear.take(response.text)
            sender.go()
            account = await sender.word()
            await asyncio.wait_for(ear.closed.wait(), 60)
            assert ear.heard[0].steps == {0}
            assert ear.heard[0].samples == account["packets"] * FRAME
    assert account["deleted"] == 200
    async with httpx.AsyncClient(base_url=f"http://{host}") as http:
        assert (await http.get("/v1/capacity")).json()["sessions"] == 0
        assert (await http.post(f"/whep/{NAME}", content=answered["offer"], headers=headers)).status_code == 404


async def test_a_wrong_bearer_token_is_a_clear_401() -> None:
    with serving.running(serving.toy_registry(), keys=(Key(name="studio", sha256=digest(KEY)),)) as host:
        url = f"http://{host}/whip?model=toy-split"
        for bearer, words in (("", "key"), ("rk_" + "b" * 40, "key")):
            async with gst("whip", url, seconds=0, bearer=bearer) as sender:
                refused = await sender.word()
            assert refused["status"] == 401
            assert json.loads(refused["text"])["error"]["code"] == "unauthorized"
            assert words in json.loads(refused["text"])["error"]["message"]
        async with gst("whip", url, seconds=0, bearer=KEY) as sender:
            await sender.connected()
