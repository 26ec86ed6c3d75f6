"""WHIP: senders that are not ours, the HTTP of RFC 9725, and what it makes of a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import rtc
import rtc_peers
import serving
from rtc import RATE, Client, Sound, level, tone

NAME = "a-name-that-nobody-guesses"
SDP, FRAGMENT = {"Content-Type": "application/sdp"}, {"Content-Type": "application/trickle-ice-sdpfrag"}
SERVERS: dict[str, Any] = {"stun": ("stun:s.example:3478",), "turn": ("turn:t.example:3478",), "turn_secret": "shared"}


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running({**serving.toy_registry(), **rtc.FOUR}, **SERVERS) as host:
        yield host


@pytest.fixture
async def client(host: str) -> AsyncIterator[Client]:
    async with Client(host, Sound(tone([440], 1.2)), 1, data=False) as client:
        yield client


async def publish(client: Client, query: str = "model=toy-split") -> httpx.Response:
    response = await client.http.post(f"/whip?{query}", content=await client.offer(), headers=SDP)
    if response.status_code == 201:
        await client.take(response.text)
    return response


async def listen(host: str, path: str, lines: int) -> Client:
    """One who hears all of the tracks, as soon as the session is there."""
    client = Client(host, None, lines, data=False)
    offer = await client.offer()
    async with asyncio.timeout(60):
        while (response := await client.http.post(path, content=offer, headers=SDP)).status_code == 404:
            await asyncio.sleep(0.05)
    assert response.status_code == 201, response.text
    await client.take(response.text)
    return client


@pytest.mark.parametrize(("options", "role"), [({}, "we begin"), ({"whip_flags": "dtls_active"}, "it begins")])
async def test_ffmpeg_sends_and_all_of_it_is_separated(
    host: str, tmp_path: Path, options: dict[str, str], role: str
) -> None:
    """FFmpeg is the DTLS server, unless it is told to be the client."""
    url = f"http://{host}/whip?model=toy-split&name={NAME}"
    sending = asyncio.create_task(rtc_peers.ffmpeg(tmp_path, url, 440, 2, **options))
    async with await listen(host, f"/whep/{NAME}", 2) as client:
        await asyncio.wait_for(client.closed.wait(), 60)
        low, high = client.heard
        assert await sending == 0
    assert low.steps == high.steps == {0}
    assert low.samples == high.samples >= 1.5 * RATE
    assert level(low.pcm()[:, RATE // 2 : RATE + RATE // 4], 440) == pytest.approx(0.05, abs=0.003)
    assert level(high.pcm()[:, RATE // 2 : RATE + RATE // 4], 440) == pytest.approx(0.15, abs=0.005)


async def test_libwebrtc_sends(host: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = rtc_peers.node(tmp_path_factory.getbasetemp())
    url = f"http://{host}/whip?model=toy-split&name={NAME}"
    sending = asyncio.create_task(rtc_peers.libwebrtc(script, "whip", url, seconds=2))
    async with await listen(host, f"/whep/{NAME}?stem=high", 1) as client:
        await asyncio.wait_for(client.closed.wait(), 60)
        assert (await sending)["status"] == 200
        heard = client.heard[0]
    assert heard.steps == {0}
    assert level(heard.pcm()[:, RATE // 2 : RATE], 440) == pytest.approx(0.75 * 6000 / 32768, rel=0.1)


async def test_the_answer_says_where_it_is_ended_and_which_servers_help(client: Client) -> None:
    created = await publish(client)
    assert created.headers["content-type"] == "application/sdp"
    assert created.headers["location"].startswith("/whip/")
    assert created.headers["etag"].startswith('"')
    stun, turn = created.headers.get_list("link")
    assert stun == '<stun:s.example:3478>; rel="ice-server"'
    assert "; username=" in turn
    assert "; credential=" in turn
    assert "a=recvonly" in created.text
    assert "stereo=1" not in created.text  # the model is mono


async def test_a_stereo_model_is_sent_stereo_unless_the_offer_says_mono(client: Client, host: str) -> None:
    assert "stereo=1;sprop-stereo=1" in (await publish(client, "model=four")).text
    async with Client(host, Sound(tone([440], 1)), 1, data=False) as other:
        said = "a=rtpmap:96 opus/48000/2\r\n"
        offer = (await other.offer()).replace(said, said + "a=fmtp:96 stereo=0\r\n")
        assert "stereo=0;" in (await other.http.post("/whip?model=four", content=offer, headers=SDP)).text


async def test_delete_ends_the_session_and_who_listens_hears_the_tail(client: Client, host: str) -> None:
    created = await publish(client, f"model=toy-delay&name={NAME}")
    sound = client.pc.getSenders()[0].track
    assert isinstance(sound, Sound)
    async with await listen(host, f"/whep/{NAME}", 1) as ear:
        sound.go.set()
        await sound.out.wait()
        assert (await client.http.delete(created.headers["location"])).status_code == 200
        await asyncio.wait_for(ear.closed.wait(), 60)
        assert ear.heard[0].samples >= 1.2 * RATE
        assert level(ear.heard[0].pcm()[:, RATE : RATE + RATE // 10], 440) == pytest.approx(0.2, abs=0.01)
    async with asyncio.timeout(60):
        while (await client.http.delete(created.headers["location"])).status_code != 404:
            await asyncio.sleep(0.05)


async def test_candidates_may_come_later(client: Client) -> None:
    """The offer has none at all: the server learns them from the PATCH, or from who asks it."""
    offer = await client.offer()
    lines = [line for line in offer.split("\r\n") if line.startswith("a=candidate")]
    bare = "\r\n".join(line for line in offer.split("\r\n") if not line.startswith(("a=candidate", "a=end-of")))
    created = await client.http.post("/whip?model=toy-split", content=bare, headers=SDP)
    ufrag = next(line for line in offer.split("\r\n") if line.startswith("a=ice-ufrag"))
    fragment = "\r\n".join([ufrag, "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", *lines, "a=end-of-candidates", ""])
    where, tag = created.headers["location"], created.headers["etag"]
    done = await client.http.patch(where, content=fragment, headers=FRAGMENT | {"If-Match": tag})
    assert (done.status_code, done.content) == (204, b"")
    connected = asyncio.Event()
    client.pc.on("connectionstatechange", lambda: client.pc.connectionState == "connected" and connected.set())
    await client.take(created.text)
    await asyncio.wait_for(connected.wait(), 60)


async def test_a_patch_that_is_none_has_the_status_that_the_rfc_has(client: Client) -> None:
    created = await publish(client)
    where = created.headers["location"]

    async def patch(text: str, headers: dict[str, str]) -> int:
        return (await client.http.patch(where, content=text, headers=headers)).status_code

    restart = "a=ice-ufrag:anew\r\na=ice-pwd:" + "p" * 24 + "\r\n"
    assert await patch(restart, FRAGMENT | {"If-Match": "*"}) == 422
    assert await patch("a=mid:0\r\n", FRAGMENT | {"If-Match": '"another"'}) == 412
    assert await patch("a=mid:0\r\n", SDP) == 415
    assert (await client.http.patch("/whip/nothing", content="", headers=FRAGMENT)).status_code == 404


async def test_verbs_and_bodies_that_mean_nothing_here(client: Client) -> None:
    asked = await client.http.options("/whip")
    assert (asked.status_code, asked.headers["accept-post"]) == (204, "application/sdp")
    assert [(await client.http.request(verb, "/whip")).status_code for verb in ("GET", "PUT")] == [405, 405]
    assert (await client.http.post("/whip", content="v=0", headers={"Content-Type": "text/plain"})).status_code == 415
    assert (await client.http.post("/whip", content="hello", headers=SDP)).status_code == 400
    assert (await client.http.post("/whip", content=b"\xff\xfe", headers=SDP)).status_code == 400


QUERIES = {
    "in the query, known are": "modell=x",
    "16 to 64 of": "model=toy-split&name=short",
    "expected one of separate": "model=toy-split&mode=odd",
    "expected a number": "model=toy-split&latency_ms=soon",
    "expected true or false": "model=toy-split&mono=perhaps",
    "this model has low, high": "model=toy-split&stems=low,drums",
}


@pytest.mark.parametrize("reason", QUERIES)
async def test_a_query_that_is_wrong_is_told_so(client: Client, reason: str) -> None:
    refused = await publish(client, QUERIES[reason])
    assert refused.status_code == 400
    assert reason in refused.json()["error"]["message"]


async def test_a_name_is_one_senders(client: Client, host: str) -> None:
    assert (await publish(client, f"model=toy-split&name={NAME}")).status_code == 201
    async with Client(host, Sound(tone([440], 1)), 1, data=False) as second:
        refused = await publish(second, f"model=toy-split&name={NAME}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
