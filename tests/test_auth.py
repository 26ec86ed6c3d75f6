"""Who gets in: keys, tokens, origins, hosts and rates, by a gate and through a real server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import serving
from serving import read_all, start
from websockets.asyncio.client import ClientConnection
from websockets.typing import Origin, Subprotocol

from server.auth import ANONYMOUS, Gate, Identity, digest, new_key
from server.config import Settings
from server.rate import Rate
from server.signing import Signer
from streaming.wire import CLOSE_CODES, PROTOCOL, ClientError

ALL, SOME = new_key(), new_key()
SECRET = "thirty-two characters of a secret"
KEYS: list[dict[str, Any]] = [
    {"name": "all", "sha256": digest(ALL)},
    {"name": "some", "sha256": digest(SOME), "max_sessions": 2, "models": ["toy-split", "toy-delay"]},
]
END = json.dumps({"type": "end"})


def gate(secret: str = SECRET, **settings: Any) -> Gate:
    return Gate(Settings(**{"keys": KEYS, **settings}), Signer(secret.encode()))


def ask(
    gate: Gate,
    key: str | None = None,
    *,
    offers: tuple[str, ...] = (),
    origin: str | None = None,
    host: str = "localhost:8000",
    address: str = "203.0.113.9",
) -> Identity:
    return gate.identify(None if key is None else f"Bearer {key}", offers, origin, host, address)


def refused(gate: Gate, *words: Any, **more: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        ask(gate, *words, **more)
    return caught.value


def test_a_key_is_known_by_its_hash_and_brings_its_limits() -> None:
    door = gate()
    assert ask(door, ALL) == Identity("all")
    assert ask(door, SOME) == Identity("some", max_sessions=2, models=("toy-split", "toy-delay"))
    assert ask(gate(keys=()), "anything") == ANONYMOUS


NEARLY = [ALL[:-1], ALL + "x", digest(ALL), "rk_", "é" * 40, "x" * 5000, "t1.", "t1.a.b"]


@pytest.mark.parametrize("wrong", NEARLY, ids=range(len(NEARLY)))  # keys are made anew in each process
def test_what_is_nearly_a_key_is_none(wrong: str) -> None:
    error = refused(gate(), wrong)
    assert error.code == "unauthorized"
    assert wrong not in error.message


def test_no_key_is_told_how_to_send_one_and_is_no_failed_guess() -> None:
    door = gate(failed_auth_per_minute=1)
    for _ in range(5):
        assert "Authorization: Bearer KEY" in refused(door).message
    with pytest.raises(ClientError, match="not `Bearer KEY`"):
        door.identify(f"Basic {ALL}", (), None, "x", "203.0.113.9")
    assert refused(door, offers=(f"token.{ALL}",)).code == "unauthorized"  # a key has no place in a browser's list
    assert ask(door, ALL).name == "all"


def test_a_token_is_its_key_for_a_while_on_every_replica() -> None:
    door, replica = gate(), gate()
    token, expires = door.mint(ask(door, SOME), 60, ["toy-split"], 1)
    assert 55 < expires - time.time() <= 60
    for identity in (ask(replica, token), ask(replica, offers=(PROTOCOL, f"token.{token}"))):
        assert (identity.name, identity.max_sessions, identity.models) == ("some", 2, ("toy-split",))
        assert identity.token
        assert identity.token_sessions == 1


def test_a_token_is_letters_that_a_sub_protocol_may_have() -> None:
    door = gate()
    token, _ = door.mint(ask(door, ALL), 60, ["modèle"], 3)
    legal = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert set(f"token.{token}") <= legal


def test_tokens_of_no_use() -> None:
    door = gate()
    identity = ask(door, ALL)
    token, _ = door.mint(identity, 60)
    payload, mac = token.removeprefix("t1.").split(".")
    signer, now = Signer(SECRET.encode()), time.time()
    claims = signer.verify("access", f"{payload}.{mac}", now)
    assert "expired" in refused(door, "t1." + signer.sign("access", claims, now - 61, 60)).message
    assert "forged" in refused(door, "t1." + signer.sign("resume", claims, now, 60)).message
    assert "forged" in refused(door, f"t1.{payload[:-2]}AA.{mac}").message
    assert "forged" in refused(gate(secret="another secret, just as long as it"), token).message
    assert "no more" in refused(gate(keys=KEYS[1:]), token).message
    renewed = [{"name": "all", "sha256": digest(new_key())}]
    assert "no more" in refused(gate(keys=renewed), token).message


def test_a_token_never_has_more_than_its_key_has_now() -> None:
    door = gate()
    token, _ = door.mint(ask(door, ALL), 60, ["toy-split", "toy-wide"])
    narrowed = [{**KEYS[0], "models": ["toy-split", "toy-long"], "max_sessions": 1}]
    identity = ask(gate(keys=narrowed), token)
    assert (identity.models, identity.max_sessions) == (("toy-split",), 1)


def test_what_may_not_be_minted() -> None:
    door = gate()
    some = ask(door, SOME)
    token, _ = door.mint(some, 60)
    for identity, wanted, said in [
        (ask(door, token), {}, "a token cannot mint"),
        (ANONYMOUS, {}, "no keys"),
        (some, {"models": ["toy-wide"]}, "got model 'toy-wide', this key may use toy-split, toy-delay"),
        (some, {"max_sessions": 3}, "got max_sessions 3, this key may have 2"),
    ]:
        with pytest.raises(ClientError, match=said) as caught:
            door.mint(identity, 60, **wanted)
        assert caught.value.code == "forbidden"


def test_guessing_is_slowed_by_address_and_hurts_nobody_else() -> None:
    door = gate(failed_auth_per_minute=3)
    assert [refused(door, new_key()).code for _ in range(4)] == ["unauthorized"] * 3 + ["too_many"]
    error = refused(door, ALL)
    assert error.code == "too_many"
    assert 0 < (error.retry_after_ms or 0) <= 60_000
    assert ask(door, ALL, address="203.0.113.10").name == "all"


def test_connections_are_counted_by_address_but_not_on_loopback() -> None:
    door = gate(connects_per_minute=3)
    for _ in range(3):
        ask(door, ALL)
    assert refused(door, ALL).code == "too_many"
    assert ask(door, ALL, address="203.0.113.10").name == "all"
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        for _ in range(1000):
            ask(door, ALL, address=address)


def test_a_rate_lasts_a_minute_and_counts_networks() -> None:
    now = 100.0
    rate = Rate(2, lambda: now)
    assert (rate.hit("2001:db8::1"), rate.hit("2001:db8::2")) == (0, 0)
    now = 130.0
    assert rate.hit("2001:db8::3") == 30
    assert rate.wait("2001:db8:0:1::1") == 0
    assert (rate.hit("::ffff:192.0.2.1"), rate.hit("192.0.2.1")) == (0, 0)
    assert rate.wait("192.0.2.1") == 60
    now = 160.5
    assert rate.hit("2001:db8::3") == 0
    assert not any(Rate(0).hit("192.0.2.1") for _ in range(1000))


@pytest.mark.parametrize(
    ("origins", "origin", "host", "fine"),
    [
        (None, "http://localhost:8000", "localhost:8000", True),
        (None, "https://Example.com", "example.com", True),
        (None, "http://localhost:9000", "localhost:8000", False),
        (None, "https://evil.example", "localhost:8000", False),
        (None, "https://localhost:8000.evil.example", "localhost:8000", False),
        (None, "null", "", False),
        (None, "http://[", "localhost:8000", False),
        (["https://a.example/"], "https://a.example", "b.example", True),
        (["https://a.example"], "http://a.example", "b.example", False),
        (["https://a.example"], "https://b.example", "b.example", False),
        (["*"], "https://b.example", "c.example", True),
        ([], "http://localhost:8000", "localhost:8000", False),
    ],
)
def test_pages_of_other_origins_stay_out(origins: Any, origin: str, host: str, fine: bool) -> None:
    door = gate(origins=origins)
    if fine:
        assert ask(door, ALL, origin=origin, host=host).name == "all"
    else:
        assert "the setting `origins` allows more" in refused(door, ALL, origin=origin, host=host).message


@pytest.mark.parametrize(
    ("settings", "host", "fine"),
    [
        ({}, "127.0.0.1:8000", True),
        ({}, "[::1]:8000", True),
        ({}, "LOCALHOST", True),
        ({}, "evil.example:8000", False),
        ({}, "127.0.0.1.evil.example", False),
        ({}, "", False),
        ({}, "[", False),
        ({"hosts": ["a.example", "[2001:db8::1]"]}, "A.example:443", True),
        ({"hosts": ["a.example", "[2001:db8::1]"]}, "[2001:db8::1]:443", True),
        ({"hosts": ["a.example:444"]}, "a.example:443", False),
        ({"hosts": ["a.example"]}, "localhost", False),
        ({"hosts": ["*"]}, "anything", True),
        ({"host": "0.0.0.0", "insecure": True}, "anything", True),
        ({"keys": KEYS}, "anything", True),
    ],
)
def test_a_name_that_was_pointed_here_is_not_answered_to(settings: dict[str, Any], host: str, fine: bool) -> None:
    door = gate(**{"keys": (), **settings})
    if fine:
        assert ask(door, ALL, host=host).name in ("all", "anonymous")
    else:
        assert "the setting `hosts` allows more" in refused(door, ALL, host=host).message


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running(serving.toy_registry(), keys=KEYS, secret=SECRET, failed_auth_per_minute=0) as host:
        yield host


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def said(socket: ClientConnection) -> tuple[dict[str, Any], int | None]:
    """The first thing that it says without being asked, and the code of its close."""
    first = json.loads(await socket.recv())
    await read_all(socket)
    return first, socket.close_code


@pytest.mark.parametrize("path", ["/v1/models", "/v1/capacity", "/metrics", "/docs", "/openapi.json"])
async def test_http_that_needs_a_key(host: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{host}") as http:
        answer = await http.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["error"]["code"] == "unauthorized"
        assert (await http.get(path, headers=bearer(ALL))).status_code == 200
        token = (await http.post("/v1/tokens", headers=bearer(ALL))).json()["token"]
        assert (await http.get(path, headers=bearer(token))).status_code == 200
        elsewhere = await http.get(path, headers={**bearer(ALL), "Origin": "https://evil.example"})
        assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (403, "forbidden")


async def test_http_that_is_open(host: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{host}") as http:
        for path in ("/livez", "/readyz", "/"):
            assert (await http.get(path)).status_code == 200
    with serving.running(serving.toy_registry(), keys=KEYS, open_metrics=True) as other:
        assert (await asyncio.to_thread(httpx.get, f"http://{other}/metrics")).status_code == 200


async def test_a_key_sees_only_its_models(host: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{host}", headers=bearer(SOME)) as http:
        assert {model["name"] for model in (await http.get("/v1/models")).json()} == {"toy-split", "toy-delay"}


async def test_minting_over_http(host: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{host}", headers=bearer(SOME)) as http:
        made = await http.post("/v1/tokens", json={"ttl_s": 10, "models": ["toy-split"], "max_sessions": 1})
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        assert 5 < made.json()["expires_at"] - time.time() <= 10
        plain = (await http.post("/v1/tokens")).json()
        assert 295 < plain["expires_at"] - time.time() <= 300
        for body, status, word in [
            (b'{"ttl_s": 9}', 400, "ttl_s: got '9'"),
            (b'{"ttl_s": NaN}', 400, "ttl_s"),
            (b'{"ttl": 60}', 400, "ttl: got"),
            (b"[" * 10_000, 400, "the body"),
            (b"\xff", 400, "the body"),
            (b" " * 20_000, 413, "over 16384 bytes"),
            (b'{"models": ["toy-wide"]}', 403, "this key may use toy-split, toy-delay"),
        ]:
            answer = await http.post("/v1/tokens", content=body)
            assert answer.status_code == status, answer.text
            assert word in answer.json()["error"]["message"]
        again = await http.post("/v1/tokens", headers=bearer(plain["token"]))
        assert (again.status_code, again.json()["error"]["code"]) == (403, "forbidden")


async def test_a_body_is_not_taken_from_those_without_a_key(host: str) -> None:
    """The answer comes before the body does."""
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"POST /v1/tokens HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n".encode())
    async with asyncio.timeout(60):
        assert b" 401 " in await reader.readline()
    writer.close()


async def test_a_browser_offers_its_token_beside_the_protocol_and_is_answered_with_the_protocol(host: str) -> None:
    token = (await asyncio.to_thread(httpx.post, f"http://{host}/v1/tokens", headers=bearer(ALL))).json()["token"]
    offers = [Subprotocol(PROTOCOL), Subprotocol(f"token.{token}")]
    async with serving.connect(host, subprotocols=offers, origin=Origin(f"http://{host}")) as socket:
        assert socket.subprotocol == PROTOCOL
        await socket.send(start("toy-split"))
        assert json.loads(await socket.recv())["type"] == "ready"
        await socket.send(END)
        _, texts = await read_all(socket)
        assert texts[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, "unauthorized"),
        ({"additional_headers": bearer("rk_" + "x" * 43)}, "unauthorized"),
        ({"subprotocols": [Subprotocol(PROTOCOL), Subprotocol("token.t1.a.b")]}, "unauthorized"),
        ({"additional_headers": bearer(ALL), "origin": Origin("https://evil.example")}, "forbidden"),
    ],
)
async def test_a_socket_is_accepted_and_told_before_it_says_anything(
    host: str, more: dict[str, Any], code: str
) -> None:
    async with serving.connect(host, **more) as socket:
        error, close = await said(socket)
    assert (error["type"], error["code"], error["fatal"], close) == ("error", code, True, CLOSE_CODES[code])


@pytest.mark.parametrize("path", ["/gst-demucs", "/separate", "/"])
async def test_the_other_protocols_have_the_same_door(host: str, path: str) -> None:
    import websockets

    async with websockets.connect(f"ws://{host}{path}") as socket:
        error, close = await said(socket)
    assert "got no key" in error["error"]
    assert close == CLOSE_CODES["unauthorized"]


async def test_models_and_sessions_of_a_key_are_held_to(host: str) -> None:
    async with serving.connect(host, additional_headers=bearer(SOME)) as socket:
        await socket.send(start("toy-wide"))
        error, close = await said(socket)
        assert (error["code"], close) == ("forbidden", 4403)
    inside = [await serving.connect(host, additional_headers=bearer(SOME)) for _ in range(3)]
    answers = []
    for socket in inside:
        await socket.send(start("toy-split"))
        answers.append(json.loads(await socket.recv()))
    assert [answer["type"] for answer in answers] == ["ready", "ready", "error"]
    assert answers[2]["code"] == "too_many"
    assert answers[2]["retry_after_ms"] > 0
    for socket in inside:
        await socket.close()


async def test_wrong_keys_over_http_end_in_429() -> None:
    with serving.running(serving.toy_registry(), keys=KEYS, failed_auth_per_minute=2) as host:
        async with httpx.AsyncClient(base_url=f"http://{host}", headers=bearer("rk_wrong")) as http:
            answers = [await http.get("/v1/models") for _ in range(3)]
            assert [answer.status_code for answer in answers] == [401, 401, 429]
            assert 0 < int(answers[2].headers["retry-after"]) <= 60
        async with serving.connect(host, additional_headers=bearer(ALL)) as socket:
            error, close = await said(socket)
        assert (error["code"], close) == ("too_many", 4429)
        assert 0 < error["retry_after_ms"] <= 60_000


async def test_pages_on_the_list_may_read_the_answers_and_others_not() -> None:
    with serving.running(serving.toy_registry(), origins=["https://a.example"]) as host:
        async with httpx.AsyncClient(base_url=f"http://{host}") as http:
            asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
            asked["Access-Control-Request-Headers"] = "authorization"
            allowed = await http.options("/v1/tokens", headers=asked)
            assert allowed.headers["access-control-allow-origin"] == "https://a.example"
            assert (await http.options("/v1/tokens", headers={**asked, "Origin": "https://b.example"})).is_error
            answer = await http.get("/v1/models", headers={"Origin": "https://a.example"})
            assert answer.headers["access-control-allow-origin"] == "https://a.example"


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/..%2fpyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"]
)
async def test_no_path_of_a_client_leads_out_of_the_page(host: str, path: str) -> None:
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert b" 404 " in answer.splitlines()[0]
    assert b"root:" not in answer
    assert b"[project]" not in answer
