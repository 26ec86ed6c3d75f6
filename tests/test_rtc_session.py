"""A session over WebRTC, by a peer that is aiortc: what comes back, on which timeline, and how it ends."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rtc
import serving
from aiortc import RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rtc import RATE, Client, Sound, level, tone

from models import toys

SLOW = replace(toys.Delay(), spec=replace(toys.Delay().spec, name="late"))


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running({**serving.toy_registry(SLOW), **rtc.FOUR}, rtc_connect_s=2, max_sessions=6) as host:
        yield host


def stereo(left: float, right: float, seconds: float) -> Any:
    return np.stack((tone([left], seconds)[0], tone([right], seconds)[0]))


async def test_four_stems_come_back_each_with_its_own_sound_on_one_exact_timeline(host: str) -> None:
    sound = Sound(stereo(440, 1000, 1.6))
    async with Client(host, sound, 4) as client:
        response = await client.post({"model": "four"}, stereo_up)
        assert response.headers["location"] == f"/v1/rtc/{client.answer['session']}"
        ready = await client.text("ready")
        assert ready["tracks"] == client.answer["tracks"]
        assert [one["name"] for one in ready["tracks"]] == ["drums", "bass", "other", "vocals"]
        assert (ready["rate"], ready["channels"]) == (RATE, 2)
        sound.go.set()
        await sound.out.wait()
        client.say("end")
        done = await client.text("done")
        drums, bass, other, vocals = (heard.pcm()[:, RATE // 4 : RATE // 4 + RATE] for heard in client.heard)
        stats = [one for one in client.texts if one["type"] == "media"][-1]
        await asyncio.wait_for(client.closed.wait(), 60)
    # Samples out == samples in, for each, and RTP says so too.
    assert done["samples"] >= round(1.6 * RATE)
    assert {-(-done["samples"] // 960) * 960} == {heard.samples for heard in client.heard}
    assert all(heard.steps == {0} for heard in client.heard)
    assert stats["lost"] == stats["discarded"] == 0
    # Content, by its tones: the left channel holds 440 Hz, the right one 1000 Hz.
    assert [round(level(drums[:1], hertz), 2) for hertz in (440, 1000)] == [0.2, 0]
    assert [round(level(bass[1:], hertz), 2) for hertz in (440, 1000)] == [0, 0.2]
    assert [round(level(other[channel : channel + 1], 440), 2) for channel in (0, 1)] == [0.1, 0]
    assert np.abs(vocals).max() < 1e-3


async def test_the_clocks_tie_each_tracks_rtp_time_to_the_sessions_samples(host: str) -> None:
    sound = Sound(tone([440], 3))
    async with Client(host, sound, 2) as client:
        await client.post({"model": "toy-split"})
        sound.go.set()
        media = await client.text("media")
        clocks = media["clocks"]
        assert [clock["mid"] for clock in clocks] == [track["mid"] for track in client.answer["tracks"]]
        assert clocks[0] == media["clock"]
        for clock, heard in zip(clocks, client.heard, strict=True):
            assert clock["sample"] > 0
            assert (clock["rtp"] - clock["sample"] - heard.packets[0].timestamp) % (1 << 32) == 0


def stereo_up(sdp: str) -> str:
    """aiortc says nothing of stereo; a client that wants it does."""
    return sdp.replace(
        "a=rtpmap:96 opus/48000/2\r\n", "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 stereo=1;sprop-stereo=1\r\n"
    )


async def test_gains_marks_and_stats_over_the_data_channel(host: str) -> None:
    sound = Sound(stereo(440, 1000, 2.4))
    async with Client(host, sound, 1) as client:
        await client.post({"model": "four", "output": "mix", "gains": {"bass": 0, "other": 0}}, stereo_up)
        assert client.answer["tracks"] == [{"mid": "0", "name": "mix"}]
        sound.go.set()
        await asyncio.sleep(1.2)
        client.say("gains", gains={"drums": 0, "bass": 1})
        client.say("mark", id="changed")
        mark = await client.text("mark", id="changed")
        await client.text("stats")
        await sound.out.wait()
        client.say("end")
        await client.text("done")
        heard = client.heard[0].pcm()
    before, after = heard[:, RATE // 4 : RATE // 4 + RATE // 2], heard[:, mark["sample"] + RATE // 5 :][:, : RATE // 2]
    assert [round(level(before[:1], 440), 2), round(level(before[1:], 1000), 2)] == [0.2, 0]
    assert [round(level(after[:1], 440), 2), round(level(after[1:], 1000), 2)] == [0, 0.2]


async def test_a_mono_offer_gets_mono(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 4) as client:
        await client.post({"model": "four"})
        assert (await client.text("ready"))["channels"] == 1
        assert "stereo=0;sprop-stereo=0" in client.answer["sdp"]


async def test_more_m_lines_than_outputs_are_answered_inactive(host: str) -> None:
    sound = Sound(tone([440], 0.5))
    async with Client(host, sound, 5) as client:
        await client.post({"model": "toy-split"})
        assert len(client.answer["tracks"]) == 2
        assert [one.currentDirection for one in client.pc.getTransceivers()] == [
            "sendrecv",
            "recvonly",
            *["inactive"] * 3,
        ]


async def test_fewer_are_refused_with_both_numbers(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 3) as client:
        response = await client.post({"model": "four"})
        assert response.status_code == 400
        assert "3 audio m-lines" in response.text
        assert "expected 4: one for each of drums, bass, other, vocals" in response.text


async def test_a_model_of_one_peer_is_a_model_of_all_others_too(host: str) -> None:
    """Delay: what the model holds back comes at the end, and the timeline has no hole."""
    sound = Sound(tone([300], 0.6))
    async with Client(host, sound, 2) as client:
        await client.post({"model": "late"})
        sound.go.set()
        await sound.out.wait()
        client.say("end")
        done = await client.text("done")
        assert client.heard[1].samples == -(-done["samples"] // 960) * 960
        assert level(client.heard[1].pcm()[:, 4800:24_000], 300) == pytest.approx(0.15, abs=0.005)


async def test_delete_hangs_up(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        response = await client.post({"model": "toy-split"})
        await client.text("ready")
        assert (await client.http.delete(response.headers["location"])).status_code == 200
        await asyncio.wait_for(client.closed.wait(), 60)
        assert (await client.http.delete(response.headers["location"])).status_code == 404


async def test_what_is_wrong_over_the_data_channel_ends_the_session_with_its_reason(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        await client.post({"model": "toy-split"})
        await client.text("ready")
        client.channel.send("{}")
        error = await client.text("error")
        assert (error["code"], error["fatal"]) == ("bad_message", True)
        await asyncio.wait_for(client.closed.wait(), 60)


async def test_bytes_over_the_data_channel_are_refused(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        await client.post({"model": "toy-split"})
        await client.text("ready")
        client.channel.send(b"\0\0")
        assert "expected text" in (await client.text("error"))["message"]


async def seats(host: str) -> int:
    async with httpx.AsyncClient() as http:
        return int((await http.get(f"http://{host}/v1/capacity")).json()["sessions"])


async def empty(host: str) -> None:
    async with asyncio.timeout(60):
        while await seats(host):
            await asyncio.sleep(0.05)


async def test_a_peer_that_never_connects_gives_its_seat_back(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        body = {"sdp": await client.offer(), "type": "offer", "start": {"model": "toy-split"}}
        await empty(host)
        location = (await client.http.post("/v1/rtc", json=body)).headers["location"]
        assert await seats(host) == 1
        await empty(host)
        assert (await client.http.delete(location)).status_code == 404


async def test_a_peer_that_leaves_gives_its_seat_back(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        await client.post({"model": "toy-split"})
        await client.text("ready")
    await empty(host)


async def test_the_door_is_the_same_as_for_sockets(host: str) -> None:
    await empty(host)
    async with asyncio.TaskGroup() as group:
        clients = [Client(host, Sound(tone([440], 1)), 2) for _ in range(7)]
        tasks = [group.create_task(one.post({"model": "toy-split"})) for one in clients]
    answers = [task.result() for task in tasks]
    assert sorted(one.status_code for one in answers) == [201] * 6 + [503]
    (full,) = [one for one in answers if one.status_code == 503]
    assert full.json()["error"]["code"] == "capacity"
    assert int(full.headers["retry-after"]) > 0
    for client in clients:
        await client.close()
    await empty(host)


@pytest.mark.parametrize(("setup", "ours"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")])
@pytest.mark.parametrize("rsa", [False, True])
async def test_both_dtls_roles_with_any_certificate(
    host: str, setup: str, ours: str, rsa: bool, tmp_path: Path
) -> None:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        if rsa:
            client.pc._RTCPeerConnection__certificates = [certificate(tmp_path)]
            client.pc.getTransceivers()[0].receiver.transport._RTCDtlsTransport__local_certificate = certificate(
                tmp_path
            )
        role = {"active": "client", "passive": "server"}.get(setup)
        if role:
            client.pc.getTransceivers()[0].receiver.transport._set_role(role)
        await client.post({"model": "toy-split"}, lambda sdp: sdp.replace("a=setup:actpass", f"a=setup:{setup}"))
        assert f"a=setup:{ours}" in client.answer["sdp"]
        await client.text("ready")


def certificate(folder: Path) -> RTCCertificate:
    """Of an RSA key, as GStreamer's are, for which aiortc alone has no ciphers."""
    key, pem = folder / "key.pem", folder / "cert.pem"
    if not key.exists():
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            pem,
            "-subj",
            "/CN=x",
        ]
        subprocess.run(command, check=True, capture_output=True)
    return Rsa(load_pem_private_key(key.read_bytes(), None), x509.load_pem_x509_certificate(pem.read_bytes()))  # type: ignore[arg-type]


class Rsa(RTCCertificate):
    def _create_ssl_context(self, srtp_profiles: Any) -> Any:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
        return context


async def test_draining_lets_those_inside_finish_and_nobody_in() -> None:
    """In a meeting, with a track a person."""
    sound = Sound(tone([440], 1.2))
    with serving.process("--preload", "speech", RIVULET_DRAIN_S="20") as (host, process):
        async with Client(host, sound, 3) as client, Client(host, Sound(tone([440], 1)), 2) as late:
            await client.post({"model": "speech", "mode": "speakers", "speakers": {"max": 3}})
            ready = await client.text("ready")
            assert [one["name"] for one in ready["tracks"]] == ["speaker_1", "speaker_2", "speaker_3"]
            sound.go.set()
            process.terminate()
            assert (await client.text("draining"))["deadline_ms"] == 20_000
            refused = await late.post({"model": "speech"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert refused.headers["retry-after"]
            await sound.out.wait()
            client.say("end")
            done = await client.text("done")
            assert {one.samples for one in client.heard} == {-(-done["samples"] // 960) * 960}
        assert process.wait(15) == 0
