"""ICE as the settings say it: addresses, ports, servers, and whom a peer may make us ask."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket

import pytest
from aioice import Connection
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcicetransport import RTCIceCandidate

from server.config import Settings
from server.webrtc.ice import MOST_CANDIDATES, Ice, check, usable
from server.webrtc.offer import read
from server.webrtc.peer import Peer


def line(address: str, port: int = 50_000, kind: str = "host", protocol: str = "udp", component: int = 1) -> str:
    return f"candidate:842163049 {component} {protocol} 1677729535 {address} {port} typ {kind} generation 0 ufrag x"


@pytest.mark.parametrize("address", ["192.0.2.9", "10.0.0.7", "192.168.1.5", "2001:db8::1", "fd00::2"])
def test_addresses_that_people_have(address: str) -> None:
    (one,) = usable([line(address)], local=False)
    assert (one.ip, one.port, one.type) == (address, 50_000, "host")


@pytest.mark.parametrize(
    "wrong",
    [
        line("127.0.0.1"), line("::1"), line("::ffff:127.0.0.1"), line("169.254.169.254"), line("224.0.0.251"),
        line("0.0.0.0"), line("fe80::1"), line("192.0.2.9", 53), line("192.0.2.9", 70_000), line("db.internal"),
        line("4c1a6d2e-8f0f-4fd2-9d3e-c2a9b1f7a001.local"), line("192.0.2.9", protocol="tcp"),
        line("192.0.2.9", component=2), line("192.0.2.9", kind="odd"), "candidate:", "",
    ],
)  # fmt: skip
def test_addresses_that_nobody_is_asked_at(wrong: str) -> None:
    assert usable([wrong], local=False) == []


def test_loopback_is_for_who_is_on_this_machine() -> None:
    assert [one.ip for one in usable([line("127.0.0.1"), line("169.254.1.1")], local=True)] == ["127.0.0.1"]


def test_a_peer_may_name_only_so_many() -> None:
    assert len(usable([line("192.0.2.9", 2000 + n) for n in range(100)], local=False)) == MOST_CANDIDATES


async def gather(ice: Ice, **more: object) -> Connection:
    connection = Connection(ice_controlling=False, **more)  # type: ignore[arg-type]
    ice.bind(connection)
    await connection.gather_candidates()
    return connection


async def test_ports_are_of_the_range_and_one_each() -> None:
    ice = Ice(Settings(rtc_ports=(42_100, 42_119), rtc_addresses=("127.0.0.1",)))
    several = [await gather(ice) for _ in range(8)]
    try:
        told = [one.port for connection in several for one in connection.local_candidates]
        assert len(set(told)) == 8
        assert all(42_100 <= port <= 42_119 for port in told)
    finally:
        for connection in several:
            await connection.close()


async def test_a_range_that_is_used_up_gives_no_candidate() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        connection = await gather(Ice(Settings(rtc_ports=(port, port), rtc_addresses=("127.0.0.1",))))
        assert connection.local_candidates == []
        await connection.close()


async def test_a_stun_server_that_is_dead_is_not_waited_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        ice = Ice(Settings(rtc_addresses=("127.0.0.1",), rtc_gather_s=0.05))
        async with asyncio.timeout(4):  # aioice alone: 5 s
            connection = await gather(ice, stun_server=silent.getsockname())
        assert [one.type for one in connection.local_candidates] == ["host"]
        await connection.close()


def test_behind_a_nat_hosts_are_told_as_the_public_address() -> None:
    ice = Ice(Settings(rtc_public="203.0.113.7"))
    mine = [
        RTCIceCandidate(1, "f", "10.0.0.2", 4000, 9, "udp", "host"),
        RTCIceCandidate(1, "f", "fd00::2", 4001, 9, "udp", "host"),
    ]
    told = [one.split()[4:6] for one in ice.public(mine)]
    assert told == [["203.0.113.7", "4000"], ["fd00::2", "4001"]]


def test_a_login_for_turn_is_what_coturn_computes() -> None:
    ice = Ice(Settings(stun=("stun:a:3478",), turn=("turn:b:3478?transport=udp",), turn_secret="s", turn_ttl_s=60))
    stun, turn = ice.servers("studio", now=1000.5)
    mac = hmac.new(b"s", b"1060:studio", hashlib.sha1).digest()
    assert stun.json() == {"urls": ["stun:a:3478"]}
    assert turn.json() == {
        "urls": ["turn:b:3478?transport=udp"], "username": "1060:studio", "credential": base64.b64encode(mac).decode(),
    }  # fmt: skip
    assert stun.links() == ['<stun:a:3478>; rel="ice-server"']
    assert turn.links()[0].startswith(
        '<turn:b:3478?transport=udp>; rel="ice-server"; username="1060:studio"; credential="'
    )


def test_this_server_asks_nobody_where_it_is_unless_told_to() -> None:
    given = {"stun": ("stun:a:3478",), "turn": ("turn:b",), "turn_secret": "s"}
    assert Ice(Settings(**given)).configuration().iceServers == []
    assert len(Ice(Settings(**given, rtc_relay=True)).configuration().iceServers or []) == 2


async def test_candidates_that_come_later_are_added_if_they_may_be_asked_and_not_without_end() -> None:
    theirs = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    theirs.addTransceiver("audio", "sendonly")
    await theirs.setLocalDescription(await theirs.createOffer())
    bare = "".join(one for one in theirs.localDescription.sdp.splitlines(True) if not one.startswith("a=candidate"))
    peer = Peer(Ice(Settings()), read(bare), False, lambda state: None)
    await peer.take([], hears=True)
    transport = peer.pc.getTransceivers()[0].receiver.transport.transport
    assert await peer.add_candidates([line("192.0.2.9"), line("127.0.0.1"), "nonsense"]) == 1
    assert [one.ip for one in transport.getRemoteCandidates()] == ["192.0.2.9"]
    await peer.add_candidates([line("192.0.2.9", 2000 + n) for n in range(100)])
    assert len(transport.getRemoteCandidates()) == MOST_CANDIDATES
    await peer.close()
    await theirs.close()


def test_aioice_is_built_as_we_expect() -> None:
    check()
