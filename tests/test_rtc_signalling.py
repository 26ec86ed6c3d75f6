"""The door of WebRTC over HTTP: who comes in, what is refused, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import serving
from rtc import Client, Sound, tone

from server.auth import digest
from server.config import Key

SECRET = "a secret of some length"
MINE, OTHER, EARS = "rk_" + "a" * 40, "rk_" + "b" * 40, "rk_" + "c" * 40
KEYS = (
    Key(name="mine", sha256=digest(MINE), max_sessions=1),
    Key(name="other", sha256=digest(OTHER), models=("toy-leaky",)),
    Key(name="ears", sha256=digest(EARS), listen=True),
)
TURN = {"stun": ("stun:s.example:3478",), "turn": ("turn:t.example:3478",), "turn_secret": "shared"}


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    settings: dict[str, Any] = {
        "rtc_connect_s": 1,
        "origins": ("https://studio.example",),
        "rtc_unconnected": 3,
        **TURN,
    }
    with serving.running(
        serving.toy_registry(), keys=KEYS, secret=SECRET, failed_auth_per_minute=0, **settings
    ) as host:
        yield host


@pytest.fixture
async def client(host: str) -> AsyncIterator[Client]:
    async with Client(host, Sound(tone([440], 1)), 2) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def told(client: Client, body: Any, key: str = MINE, **more: Any) -> tuple[int, str]:
    response = await client.http.post("/v1/rtc", json=body, headers=bearer(key), **more)
    error = response.json()["error"]
    return response.status_code, f"{error['code']}: {error['message']}"


async def test_without_a_key_nobody_is_answered(client: Client) -> None:
    refused = await client.post({"model": "toy-split"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="rivulet"')
    assert (await client.http.get("/v1/rtc")).status_code == 401
    assert (await client.http.delete("/v1/rtc/abc")).status_code == 401
    assert (await told(client, {}, "rk_wrong"))[0] == 401


async def test_a_browser_comes_with_a_token(client: Client) -> None:
    minted = await client.http.post("/v1/tokens", json={"ttl_s": 60}, headers=bearer(MINE))
    assert (await client.post({"model": "toy-split"}, headers=bearer(minted.json()["token"]))).status_code == 201
    await client.text("ready")


async def test_what_a_client_needs_to_know_before_it_offers(client: Client) -> None:
    got = (await client.http.get("/v1/rtc", headers=bearer(MINE))).json()
    stun, turn = got["ice_servers"]
    assert stun == {"urls": ["stun:s.example:3478"]}
    assert turn["urls"] == ["turn:t.example:3478"]
    assert turn["username"].endswith(":mine")
    assert got["most_tracks"] == 32


BODIES = {
    "not JSON": b"{",
    "expected an object": b"[]",
    "unknown field": b'{"sdp": "v=0", "type": "offer", "start": {}, "x": 1}',
    "expected 'offer'": b'{"sdp": "v=0", "type": "answer", "start": {}}',
    "got no sdp": b'{"type": "offer", "start": {}}',
    "got no start": b'{"sdp": "v=0", "type": "offer"}',
    "expected SDP": b'{"sdp": "hello", "type": "offer", "start": {}}',
}


@pytest.mark.parametrize("reason", BODIES)
async def test_a_body_that_is_no_offer_is_400_with_its_reason(client: Client, reason: str) -> None:
    response = await client.http.post("/v1/rtc", content=BODIES[reason], headers=bearer(MINE))
    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]


STARTS = {
    "lacks model": {},
    "unknown field 'modell'": {"model": "toy-split", "modell": 1},
    "got rate in start": {"model": "toy-split", "rate": 8000},
    "got live in start": {"model": "toy-split", "live": False},
    "no_drums": {"model": "toy-split", "stems": ["no_drums"]},
    "gains without output": {"model": "toy-split", "gains": {"low": 1}},
}


@pytest.mark.parametrize("reason", STARTS)
async def test_a_start_that_a_socket_would_refuse_is_refused(client: Client, reason: str) -> None:
    status, message = await told(client, {"sdp": await client.offer(), "type": "offer", "start": STARTS[reason]})
    assert status == 400
    assert reason.replace("lacks model", "got model 'None'") in message


async def test_refusals_have_the_status_that_http_has_for_them(client: Client) -> None:
    offer = {"sdp": await client.offer(), "type": "offer"}
    assert (await told(client, offer | {"start": {"model": "nobody's"}}))[0] == 404
    assert (await told(client, offer | {"start": {"model": "toy-split"}}, OTHER))[0] == 403
    status, message = await told(client, offer | {"start": {"model": "toy-split", "latency_ms": 1}})
    assert (status, message.partition(":")[0]) == (422, "latency")
    large = offer | {"sdp": offer["sdp"] + "a=x:" + "y" * (1 << 18)}
    assert (await told(client, large | {"start": {}}))[0] == 413


async def test_an_offer_must_bring_sound_and_have_a_data_channel(host: str) -> None:
    async with Client(host, Sound(tone([440], 1)), 2, data=False) as client:
        status, message = await told(
            client, {"sdp": await client.offer(), "type": "offer", "start": {"model": "toy-split"}}
        )
        assert (status, "data channel" in message) == (400, True)
    async with Client(host, None, 2) as client:
        status, message = await told(
            client, {"sdp": await client.offer(), "type": "offer", "start": {"model": "toy-split"}}
        )
        assert (status, "recvonly" in message) == (400, True)


async def test_quotas_count_and_another_key_sees_nothing(client: Client, host: str) -> None:
    created = await client.post({"model": "toy-split"}, headers=bearer(MINE))
    await client.text("ready")
    async with Client(host, Sound(tone([440], 1)), 2) as second:
        status, message = await told(
            second, {"sdp": await second.offer(), "type": "offer", "start": {"model": "toy-split"}}
        )
        assert (status, message.partition(":")[0]) == (429, "too_many")
    where = created.headers["location"]
    assert (await client.http.delete(where, headers=bearer(OTHER))).status_code == 404
    assert (await client.http.delete(where, headers=bearer(MINE))).status_code == 200


async def test_peers_that_do_not_connect_are_bounded(client: Client) -> None:
    """Answers are given, and never taken."""
    offer = {"sdp": await client.offer(), "type": "offer", "start": {"model": "toy-split"}}
    async with asyncio.TaskGroup() as group:
        posts = [group.create_task(client.http.post("/v1/rtc", json=offer, headers=bearer(EARS))) for _ in range(5)]
    answers = [one.result() for one in posts]
    assert sorted(one.status_code for one in answers) == [201] * 3 + [503] * 2
    assert all(one.headers["retry-after"] == "2" for one in answers if one.status_code == 503)
    async with asyncio.timeout(60):
        while (await client.http.post("/v1/rtc", json=offer, headers=bearer(EARS))).status_code != 201:
            await asyncio.sleep(0.2)


async def test_pages_of_other_origins_may_as_far_as_the_settings_say(client: Client) -> None:
    ask = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization,if-match"}
    good = await client.http.options("/v1/rtc/abc", headers=ask | {"Origin": "https://studio.example"})
    assert (good.status_code, "DELETE" in good.headers["access-control-allow-methods"]) == (200, True)
    assert (
        await client.http.options("/v1/rtc/abc", headers=ask | {"Origin": "https://evil.example"})
    ).status_code == 400
    seen = await client.http.get("/v1/rtc", headers=bearer(MINE) | {"Origin": "https://studio.example"})
    exposed = seen.headers["access-control-expose-headers"]
    assert {"Location", "Link", "ETag", "Retry-After"} <= set(exposed.split(", "))
    evil = await client.http.get("/v1/rtc", headers=bearer(MINE) | {"Origin": "https://evil.example"})
    assert evil.status_code == 403


async def test_the_operator_sees_peers_packets_and_failures(client: Client) -> None:
    sound = client.pc.getSenders()[0].track
    assert isinstance(sound, Sound)
    await client.post({"model": "toy-leaky"}, headers=bearer(OTHER))
    sound.go.set()
    await client.text("media")
    text = (await client.http.get("/metrics", headers=bearer(MINE))).text
    assert 'rivulet_rtc_peers{kind="rtc"} 1.0' in text
    assert "rivulet_rtc_tracks 2.0" in text
    assert "rivulet_rtc_setup_seconds_count" in text
    packets = next(line for line in text.splitlines() if line.startswith('rivulet_rtc_packets_total{what="packets"}'))
    assert float(packets.split()[1]) > 20
    assert 'rivulet_rtc_failures_total{kind="rtc"}' in text  # of the test before


def test_without_webrtc_there_is_none() -> None:
    with serving.running(serving.toy_registry(), rtc=False) as host:
        assert httpx.get(f"http://{host}/v1/rtc").status_code == 404
        assert httpx.post(f"http://{host}/whip").status_code in (404, 405)
