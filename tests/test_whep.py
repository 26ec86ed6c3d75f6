"""WHEP: whoever may listens to any live session, by a player that is aiortc, libwebrtc or Chromium."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rtc
import rtc_peers
import serving
from rtc import RATE, Client, Sound, level, tone

from server.auth import digest
from server.config import Key

SDP = {"Content-Type": "application/sdp"}
MINE, OTHER, EARS = "rk_" + "a" * 40, "rk_" + "b" * 40, "rk_" + "c" * 40
KEYS = (
    Key(name="mine", sha256=digest(MINE)),
    Key(name="other", sha256=digest(OTHER)),
    Key(name="ears", sha256=digest(EARS), listen=True),
)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running({**serving.toy_registry(), **rtc.FOUR}, rtc_listeners=3, rtc_connect_s=3) as host:
        yield host


@asynccontextmanager
async def streaming(
    host: str, seconds: float, rate: int = 16_000, whole: bool = True, **start: Any
) -> AsyncIterator[str]:
    """A session over a WebSocket that sends a tone in real time; its id. Its own client reads what comes, throughout; `whole`:
    and to the end."""
    more = {"additional_headers": start.pop("headers")} if "headers" in start else {}
    pcm = (0.2 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("<f4")
    async with serving.connect(host, **more) as socket:
        await socket.send(serving.start(start.pop("model", "toy-split"), rate, **start))
        ready = json.loads(await socket.recv())
        assert ready["type"] == "ready", ready

        async def feed() -> None:
            step = rate // 50
            for at in range(0, len(pcm), step):
                await socket.send(pcm[at : at + step].tobytes())
                await asyncio.sleep(0.02)
            await socket.send(json.dumps({"type": "end"}))

        tasks = [asyncio.create_task(feed()), asyncio.create_task(serving.read_all(socket, 0))]
        try:
            yield ready["session"]
            if whole:
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def ear(host: str, path: str, lines: int) -> AsyncIterator[Client]:
    async with Client(host, None, lines, data=False) as client:
        response = await client.http.post(f"/whep/{path}", content=await client.offer(), headers=SDP)
        assert response.status_code == 201, response.text
        client.answer = {"location": response.headers["location"], "sdp": response.text}
        await client.take(response.text)
        yield client


async def heard(client: Client, track: int, seconds: float) -> Any:
    """The last so many seconds of a track, when it has so many after a first half."""
    packets = client.heard[track].packets
    async with asyncio.timeout(60):
        while len(packets) < 50 * (seconds + 0.5):
            await asyncio.sleep(0.05)
    return client.heard[track].pcm()[:, -round(seconds * RATE) :]


async def test_a_sessions_tracks_each_on_an_m_line_of_its_own(host: str) -> None:
    async with streaming(host, 2.2) as session, ear(host, session, 2) as client:
        low, high = await asyncio.gather(heard(client, 0, 1), heard(client, 1, 1))
        assert level(low, 440) == pytest.approx(0.05, abs=0.003)
        assert level(high, 440) == pytest.approx(0.15, abs=0.005)
        assert [one.steps for one in client.heard] == [{0}, {0}]
        assert ["a=msid:low low" in client.answer["sdp"], "a=msid:high high" in client.answer["sdp"]] == [True, True]


async def test_one_m_line_is_the_mix_or_a_stem(host: str) -> None:
    async with streaming(host, 2.4, rate=44_100) as session:
        async with ear(host, session, 1) as mix, ear(host, f"{session}?stem=low", 1) as low:
            both, one = await asyncio.gather(heard(mix, 0, 1), heard(low, 0, 1))
    assert level(both, 440) == pytest.approx(0.2, abs=0.006)
    assert level(one, 440) == pytest.approx(0.05, abs=0.003)


async def test_a_session_over_webrtc_is_heard_by_others_too(host: str) -> None:
    sound = Sound(tone([440], 2.5))
    async with Client(host, sound, 2) as client:
        await client.post({"model": "toy-split"})
        sound.go.set()
        async with ear(host, f"{client.answer['session']}?stem=high", 1) as listener:
            assert level(await heard(listener, 0, 1), 440) == pytest.approx(0.15, abs=0.005)
            here = {one.payload for one in client.heard[1].packets}
            there = [one.payload for one in listener.heard[0].packets]
            assert sum(payload in here for payload in there[5:40]) > 25  # encoded once: the same packets


async def test_the_last_is_heard_and_then_the_listener_is_let_go(host: str) -> None:
    async with streaming(host, 1.2, model="toy-delay") as session, ear(host, session, 2) as client:
        await asyncio.wait_for(client.closed.wait(), 60)
        assert client.heard[0].samples > 0.8 * RATE
    async with httpx.AsyncClient(base_url=f"http://{host}") as http:
        assert (await http.delete(client.answer["location"])).status_code == 404


async def test_who_joins_late_hears_from_now_on_the_sessions_timeline(host: str) -> None:
    async with streaming(host, 2.4) as session:
        async with ear(host, session, 1) as first:
            await heard(first, 0, 0.5)
            async with ear(host, session, 1) as second:
                await heard(second, 0, 0.5)
                assert second.heard[0].steps == {0}


async def test_a_listener_that_vanishes_holds_up_nobody(host: str) -> None:
    """Its process is stopped, as it were: nothing is read or answered any more."""
    async with streaming(host, 2.0) as session:
        async with ear(host, session, 1) as client, ear(host, session, 1) as other:
            await heard(other, 0, 0.3)
            transport = client.pc.getTransceivers()[0].receiver.transport.transport
            for protocol in transport._connection._protocols:
                protocol.transport.pause_reading()  # type: ignore[attr-defined]
            before = len(other.heard[0].packets)
            await asyncio.sleep(0.8)
            assert len(other.heard[0].packets) > before + 25
    # `streaming` has read every stem by now, in order and to the end.


async def test_what_cannot_be_heard(host: str) -> None:
    async with Client(host, None, 3, data=False) as client, Client(host, Sound(tone([1], 1)), 1, data=False) as sender:
        three, sending = await client.offer(), (await sender.offer()).replace("a=sendrecv", "a=sendonly")

        async def post(path: str, offer: str) -> tuple[int, str]:
            response = await client.http.post(f"/whep/{path}", content=offer, headers=SDP)
            return response.status_code, response.json()["error"]["message"]

        assert (await post("0123456789abcdef", three))[0] == 404
        async with streaming(host, 0.5, model="four", rate=RATE) as session:
            status, message = await post(session, three)
            assert (
                status,
                "3 audio m-lines, expected 1 for the mix, or 4 for drums, bass, other, vocals" in message,
            ) == (400, True)
            status, message = await post(f"{session}?stem=flute", three)
            assert (status, "this session has drums, bass, other, vocals, mix" in message) == (400, True)
            status, message = await post(session, sending)
            assert (status, "recvonly" in message) == (400, True)
        async with streaming(host, 0.2, live=False) as session:
            assert (await post(session, three))[0] == 409


async def test_listeners_are_bounded_and_leave_by_delete(host: str) -> None:
    async with streaming(host, 30, whole=False) as session:
        async with ear(host, session, 1) as one, ear(host, session, 1), ear(host, session, 1):
            async with Client(host, None, 1, data=False) as late:
                offer = await late.offer()
                full = await late.http.post(f"/whep/{session}", content=offer, headers=SDP)
                assert (full.status_code, full.json()["error"]["code"]) == (503, "capacity")
                assert (await late.http.delete(one.answer["location"])).status_code == 200
                await asyncio.wait_for(one.closed.wait(), 60)
                assert (await late.http.post(f"/whep/{session}", content=offer, headers=SDP)).status_code == 201


async def test_only_its_key_or_one_that_may_listen_hears_a_session() -> None:
    with serving.running(serving.toy_registry(), keys=KEYS, secret="s" * 20, failed_auth_per_minute=0) as host:
        bearer = {key: {"Authorization": f"Bearer {key}"} for key in (MINE, OTHER, EARS)}
        async with streaming(host, 1.5, headers=bearer[MINE]) as session, Client(host, None, 1, data=False) as client:
            offer = await client.offer()
            path = f"/whep/{session}"
            answers = {
                key: (await client.http.post(path, content=offer, headers=SDP | bearer[key])).status_code
                for key in bearer
            }
            assert answers == {MINE: 201, OTHER: 404, EARS: 201}
            assert (await client.http.post(path, content=offer, headers=SDP)).status_code == 401


async def test_libwebrtc_listens(host: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = rtc_peers.node(tmp_path_factory.getbasetemp())
    async with streaming(host, 60, whole=False) as session:
        url = f"http://{host}/whep/{session}"
        all_of_it = await rtc_peers.libwebrtc(script, "whep", url, seconds=1, lines=2, hertz=[440, 1000])
    assert [one["stream"] for one in all_of_it["tracks"]] == ["low", "high"]
    assert [one["levels"][0] for one in all_of_it["tracks"]] == pytest.approx([0.05, 0.15], rel=0.15)
    assert max(one["levels"][1] for one in all_of_it["tracks"]) < 0.01


PLAYER = """async ([path, lines]) => {
  const pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
  const heard = new Promise((done) => {
    const all = [];
    pc.ontrack = ({ track, streams }) => { all.push([track, streams[0]]); if (all.length === lines) done(all); };
  });
  for (let n = 0; n < lines; n++) pc.addTransceiver("audio", { direction: "recvonly" });
  await pc.setLocalDescription();
  await new Promise((done) => setTimeout(done, 200));
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
  if (answer.status !== 201) return { error: await answer.text() };
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const context = new AudioContext({ sampleRate: 48000 });
  const levels = await Promise.all((await heard).map(async ([, stream]) => {
    const element = new Audio();
    element.srcObject = stream;
    element.muted = true;
    await element.play();
    const analyser = new AnalyserNode(context, { fftSize: 32768, smoothingTimeConstant: 0 });
    context.createMediaStreamSource(stream).connect(analyser);
    const wave = new Float32Array(32768);
    for (let tries = 0; tries < 100; tries++) {
      await new Promise((done) => setTimeout(done, 100));
      analyser.getFloatTimeDomainData(wave);
      if (wave[0] && wave[16000] && wave[32767]) break;
    }
    // Piece by piece, and the middle one: a player that stretches time here and there keeps the tone, and not its phase.
    const pieces = [];
    for (let at = 0; at < wave.length; at += 2400) {
      let re = 0, im = 0;
      const piece = wave.subarray(at, at + 2400);
      piece.forEach((value, n) => {
        re += value * Math.cos(2 * Math.PI * 440 * n / 48000);
        im += value * Math.sin(2 * Math.PI * 440 * n / 48000);
      });
      if (piece.length === 2400) pieces.push(2 * Math.hypot(re, im) / piece.length);
    }
    pieces.sort((a, b) => a - b);
    return [stream.id, pieces[pieces.length >> 1]];
  }));
  const left = await fetch(answer.headers.get("Location"), { method: "DELETE" });
  pc.close();
  return { levels, left: left.status };
}"""


@pytest.mark.browser
async def test_chromium_listens_and_gives_its_address_away_to_nobody(tmp_path: Path) -> None:
    """A page without a microphone has only `.local` names for itself: who it is, the server learns by being asked."""
    playwright = pytest.importorskip("playwright.async_api")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--autoplay-policy=no-user-gesture-required",
    ]
    if not (chromium := rtc_peers.chromium()):
        pytest.skip("no Chromium here")
    with serving.running(serving.toy_registry(), page=tmp_path) as host:
        async with playwright.async_playwright() as p:
            browser = await p.chromium.launch(executable_path=chromium, headless=True, args=flags)
            page = await browser.new_page()
            await page.goto(f"http://{host}/livez")
            async with streaming(host, 60, whole=False) as session:
                told = await page.evaluate(PLAYER, [f"/whep/{session}", 2])
            await browser.close()
    assert told["left"] == 200
    assert [name for name, _ in told["levels"]] == ["low", "high"]
    assert [value for _, value in told["levels"]] == pytest.approx([0.05, 0.15], rel=0.15)
