"""The server as `rivulet serve` sets it up: who may be slow to ask, and whose word about addresses is believed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
import serving
import uvicorn

from server import run
from server.app import create
from server.auth import digest, new_key
from server.config import Settings
from server.websocket import listen

KEY = new_key()
KEYS = [{"name": "a", "sha256": digest(KEY)}]


@contextmanager
def running(**settings: Any) -> Iterator[str]:
    given = Settings(preload=(), log_level="warning", **settings)
    server = uvicorn.Server(uvicorn.Config(create(given, serving.toy_registry()), **run.options(given)))
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            threading.Event().wait(0.01)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_who_does_not_ask_is_cut(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "REQUEST_S", 0.3)
    with running() as host:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(said)
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_who_has_asked_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "REQUEST_S", 0.3)
    with running() as host:
        async with serving.connect(host) as socket:
            await asyncio.sleep(1)
            await socket.send(serving.start("toy-split"))
            assert json.loads(await socket.recv())["type"] == "ready"
        async with httpx.AsyncClient(base_url=f"http://{host}") as http:
            first = await http.get("/livez")
            await asyncio.sleep(1)
            second = await http.get("/livez")
            streams = [one.extensions["network_stream"].get_extra_info("client_addr") for one in (first, second)]
            assert streams[0] == streams[1]
            assert "server" not in second.headers


async def test_a_trusted_proxy_tells_addresses_and_nobody_else_does() -> None:
    def get(host: str, key: str, address: str) -> int:
        headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
        return httpx.get(f"http://{host}/v1/models", headers=headers).status_code

    with running(keys=KEYS, failed_auth_per_minute=1) as host:
        assert [get(host, key, "203.0.113.1") for key in (KEY, "rk_no", KEY)] == [200, 401, 429]
        assert get(host, KEY, "203.0.113.2") == 200
    with running(keys=KEYS, failed_auth_per_minute=1, trusted_proxies=["192.0.2.1"]) as host:
        assert get(host, "rk_no", "203.0.113.1") == 401
        assert get(host, KEY, "203.0.113.2") == 429
    with running(connects_per_minute=2) as host:
        assert [get(host, "x", "203.0.113.1") for _ in range(3)] == [200, 200, 429]
        assert get(host, "x", "203.0.113.2") == 200


async def test_a_thousand_connections_of_a_benchmark_on_this_machine_are_let_in() -> None:
    with running() as host:
        for _ in range(100):
            sockets = await asyncio.gather(*(serving.connect(host) for _ in range(10)))
            await asyncio.gather(*(socket.send(serving.start("nope")) for socket in sockets))
            codes = {json.loads(await socket.recv())["code"] for socket in sockets}
            assert codes == {"unknown_model"}
            await asyncio.gather(*(socket.close() for socket in sockets))
