"""A real coturn, with the configuration of deploy/coturn: who gets a relay and what for, and sessions that have no other way.

Between the namespaces of server and client, and where a test says so between client and relay too, no UDP passes.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aioice import stun, turn
from netns.link import CLIENT, RELAY, SERVER, Link, link, missing
from structlog.testing import capture_logs
from test_rtc_ice import gather
from test_rtc_network import CHROMIUM, HERE, converse, exact, running

from server.config import Settings
from server.webrtc.ice import Ice

TURNSERVER = shutil.which("turnserver")
CONFIGURATION = Path(__file__).parent.parent / "deploy" / "coturn" / "turnserver.conf"
SECRET = "a secret that two servers share"
REASON = missing()
pytestmark = pytest.mark.skipif(TURNSERVER is None, reason="needs coturn")
apart = pytest.mark.skipif(REASON is not None, reason=str(REASON))
browser = pytest.mark.browser
ALLOWED = "192.168.77.1"


@contextmanager
def coturn(
    folder: Path, address: str, *options: str, port: int = 3478, at: tuple[str, ...] = ()
) -> Iterator[Callable[[], str]]:
    """It runs, and listens; what it has said so far."""
    assert TURNSERVER is not None
    command = [*at, TURNSERVER, "-c", str(CONFIGURATION), f"--static-auth-secret={SECRET}", f"--listening-port={port}"]
    command += [
        f"--listening-ip={address}",
        f"--relay-ip={address}",
        f"--userdb={folder}/db",
        f"--pidfile={folder}/pid",
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        up = threading.Event()

        def read() -> None:
            for line in process.stdout or ():
                said.append(line)
                if "SQLite DB connection success" in line:  # the last of its beginning
                    up.set()
            up.set()

        reading = threading.Thread(target=read)
        reading.start()
        try:
            assert up.wait(20), "".join(said)
            assert process.poll() is None, "".join(said)
            yield lambda: "".join(said)
        finally:
            process.send_signal(signal.SIGKILL)
            reading.join()


# Who gets a relay, and what for


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("coturn")
    with coturn(folder, "127.0.0.1", f"--allowed-peer-ip={ALLOWED}", "--user-quota=3", port=port):
        yield port


class Relayed(asyncio.DatagramProtocol):
    """Who would hear what the relay receives."""


@asynccontextmanager
async def allocation(port: int, login: tuple[str, str], transport: str = "udp") -> AsyncIterator[Any]:
    """The inside of aioice's client, which can say everything that TURN has."""
    made, _ = await turn.create_turn_endpoint(Relayed, ("127.0.0.1", port), *login, transport=transport)
    try:
        yield made._TurnTransport__inner_protocol  # type: ignore[attr-defined]
    finally:
        made.close()
        await asyncio.sleep(0.05)


def login(who: str = "studio", secret: str = SECRET, ago: float = 0.0) -> tuple[str, str]:
    """As Rivulet told it so many seconds ago."""
    ice = Ice(Settings(turn=("turn:127.0.0.1",), turn_secret=secret, turn_ttl_s=60))
    (server,) = ice.servers(who, time.time() - ago)
    return server.username, server.credential


async def refusal(work: Any) -> int:
    with pytest.raises(stun.TransactionFailed) as refused:
        await work
    return int(refused.value.response.attributes["ERROR-CODE"][0])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_login_that_clients_are_told_is_good_there(port: int, transport: str) -> None:
    async with allocation(port, login(), transport) as client:
        host, relayed = client.relayed_address
        assert host == "127.0.0.1"
        assert 49_152 <= relayed <= 49_663


@pytest.mark.parametrize("wrong", [{"ago": 61.0}, {"secret": "another"}], ids=["expired", "another secret"])
async def test_another_is_refused(port: int, wrong: dict[str, Any]) -> None:
    assert await refusal(allocation(port, login(**wrong)).__aenter__()) == 401


async def test_a_session_may_be_longer_than_its_login(port: int) -> None:
    async with allocation(port, login(ago=58.0)) as client:
        await asyncio.sleep(3)
        request = stun.Message(message_method=stun.Method.REFRESH, message_class=stun.Class.REQUEST)
        request.attributes["LIFETIME"] = 600
        response, _ = await client.request_with_retry(request)
        assert response.attributes["LIFETIME"] == 600
    assert await refusal(allocation(port, login(ago=61.0)).__aenter__()) == 401


PRIVATE = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.254", "192.0.0.1", "192.0.2.1",
    "192.168.77.2", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.251", "240.0.0.1", "255.255.255.255",
]  # fmt: skip


async def test_nothing_is_relayed_into_networks_that_are_somebodys(port: int) -> None:
    async with allocation(port, login()) as client:
        for number, address in enumerate(PRIVATE):
            assert await refusal(client.channel_bind(0x4000 + number, (address, 5000))) == 403, address
        for number, address in enumerate([ALLOWED, "8.8.8.8"]):  # bound, and nothing is sent
            await client.channel_bind(0x4100 + number, (address, 5000))


async def test_all_who_share_a_key_share_its_quota(port: int) -> None:
    """Three here, by an option: however often it is told its login anew."""
    inside = [allocation(port, login("many", ago=number)) for number in range(3)]
    for one in inside:
        await one.__aenter__()
    assert await refusal(allocation(port, login("many", ago=4.0)).__aenter__()) == 486
    async with allocation(port, login("another")):
        pass
    for one in inside:
        await one.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("secret", "reason"), [(SECRET, None), ("another", "401")], ids=["with a relay", "another secret"]
)
async def test_a_server_that_gets_no_relay_says_why(port: int, secret: str, reason: str | None) -> None:
    urls = (f"turn:127.0.0.1:{port}?transport=udp",)
    ice = Ice(Settings(rtc_relay=True, turn=urls, turn_secret=secret, rtc_addresses=("127.0.0.1",), rtc_gather_s=5))
    (server,) = ice.configuration().iceServers or []
    with capture_logs() as logs:
        connection = await gather(
            ice, turn_server=("127.0.0.1", port), turn_username=server.username, turn_password=server.credential
        )
    kinds = [one.type for one in connection.local_candidates]
    await connection.close()
    assert kinds == (["host"] if reason else ["host", "relay"])
    assert [reason in one["reason"] for one in logs if one["log_level"] == "warning"] == ([True] if reason else [])


# Sessions that have no other way


@pytest.fixture(scope="module")
def ends() -> Iterator[Link]:
    with link("server", "client", "relay") as three:
        yield three


@pytest.fixture(scope="module")
def relay(ends: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    allowed = [f"--allowed-peer-ip={address}" for address in (SERVER, CLIENT, RELAY)]
    with coturn(tmp_path_factory.mktemp("coturn"), RELAY, *allowed, at=tuple(ends.at("relay"))) as said:
        yield said


@contextmanager
def serving(ends: Link, transport: str, **more: str) -> Iterator[str]:
    environment = {
        "RIVULET_STUN": f'["stun:{RELAY}:3478"]',
        "RIVULET_TURN": f'["turn:{RELAY}:3478?transport={transport}"]',
        "RIVULET_TURN_SECRET": SECRET,
        **more,
    }
    command = [*ends.at("server"), sys.executable, str(HERE / "serve.py"), SERVER]
    with running(command, **environment) as server:
        assert server.stdout is not None
        yield f"{SERVER}:{int(server.stdout.readline())}"


def walls(ends: Link, *pairs: tuple[str, str]) -> None:
    ends.line.wall(*pairs)
    ends.line.udp.clear()


def directly(ends: Link) -> int:
    return ends.line.udp[CLIENT, SERVER] + ends.line.udp[SERVER, CLIENT]


APART, NO_UDP = [(CLIENT, SERVER)], [(CLIENT, SERVER), (CLIENT, RELAY)]
WAYS = [pytest.param("udp", APART, id="over UDP"), pytest.param("tcp", NO_UDP, id="over TCP")]


@apart
@pytest.mark.parametrize(("transport", "closed"), WAYS)
def test_all_samples_come_through_a_relay(
    ends: Link, relay: Callable[[], str], transport: str, closed: list[tuple[str, str]]
) -> None:
    walls(ends, *closed)
    with serving(ends, transport) as host:
        _, account = converse(ends, [str(HERE / "peer.py"), host, "quick", "4"], lambda _: False)
    exact(account)
    assert account["pair"][0][0] == "relay"
    assert directly(ends) == 0
    assert (ends.line.udp[CLIENT, RELAY] > 0) == (transport == "udp")
    assert ends.line.udp[RELAY, SERVER] >= 4 * 50


@apart
@browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("transport", "closed"), WAYS)
def test_chromium_through_a_relay(
    ends: Link, relay: Callable[[], str], transport: str, closed: list[tuple[str, str]]
) -> None:
    pytest.importorskip("playwright")
    walls(ends, *closed)
    with serving(ends, transport) as host:
        seconds, account = converse(ends, [str(HERE / "browser.py"), host, "quick", "5"], lambda _: False)
    assert seconds[-1]["pair"][0] == "relay"
    assert seconds[-1]["over"] == transport
    assert directly(ends) == 0
    whole(account, 4)


def whole(account: dict[str, Any], seconds: int) -> None:
    """Every sample that was heard is told, and came here."""
    done = account["done"]["samples"]
    assert done == account["stats"]["heard"] == account["stats"]["told"] > seconds * 48_000
    assert account["media"]["lost"] == account["media"]["concealed"] == 0
    for track in account["tracks"]:
        assert track["lost"] == 0
        assert track["came"] == -(-done // 960)
        assert track["energy"] > 0


@apart
@browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_learns_that_its_login_is_refused(ends: Link, relay: Callable[[], str]) -> None:
    """That of a server with another secret."""
    pytest.importorskip("playwright")
    walls(ends, *APART)
    with serving(ends, "udp", RIVULET_TURN_SECRET="another") as host:
        command = [*ends.at("client"), sys.executable, str(HERE / "browser.py"), host, "quick", "0"]
        with running(command) as peer:
            (account,) = map(json.loads, peer.stdout or ())
    told = {(one["errorCode"], one["url"]) for one in account["refused"]}
    assert (401, f"turn:{RELAY}:3478?transport=udp") in told
    assert "Cannot find credentials of user" in relay()


@apart
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_server_that_is_reached_only_by_a_relay(ends: Link, relay: Callable[[], str], transport: str) -> None:
    walls(ends, *APART)
    with serving(ends, transport, RIVULET_RTC_RELAY="true") as host:
        _, account = converse(ends, [str(HERE / "peer.py"), host, "quick", "4"], lambda _: False)
    exact(account)
    assert account["pair"][1][1] == RELAY
    assert directly(ends) == 0


@apart
@browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_and_a_server_that_is_reached_only_by_a_relay(ends: Link, relay: Callable[[], str]) -> None:
    """It hides its address, and has another by the STUN server: by that the relay lets it in."""
    pytest.importorskip("playwright")
    walls(ends, *APART)
    with serving(ends, "udp", RIVULET_RTC_RELAY="true") as host:
        command = [str(HERE / "browser.py"), host, "quick", "5", f"stun:{RELAY}:3478"]
        seconds, account = converse(ends, command, lambda _: False)
    assert seconds[-1]["pair"][0] != "relay"
    assert directly(ends) == 0
    assert min(ends.line.udp[CLIENT, RELAY], ends.line.udp[RELAY, SERVER]) >= 4 * 50
    whole(account, 4)
