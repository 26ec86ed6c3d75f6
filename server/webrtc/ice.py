"""ICE as this server does it: its own addresses first and at once, ports from a range, and relays for those who need them.

aioice binds any free port and waits five seconds for a STUN server that is dead. Neither can be told it, so the one
method that gathers is replaced, on each connection (`Ice.bind`); without it this server refuses to start (`check`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aioice.ice
import structlog
from aioice import Candidate, Connection
from aioice.candidate import candidate_foundation, candidate_priority
from aiortc import RTCConfiguration, RTCIceServer
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtcicetransport import RTCIceCandidate

from server.config import Settings

log = structlog.get_logger(__name__)
TRIES = 64  # ports of the range that are tried before an address is left out
MOST_CANDIDATES = 32  # of a peer; each is asked up to seven times whether it is there
GATHER = "get_component_candidates"
BUFFER = 256 << 10  # bytes of a socket for what comes
CANDIDATE = re.compile(
    r"(\S{1,32}) (\d{1,3}) (?i:udp) (\d{1,10}) (\S{2,45}) (\d{1,5}) typ (host|srflx|prflx|relay)\b.*"
)


@dataclass(frozen=True)
class Server:
    """A STUN or TURN server, as a client's RTCPeerConnection takes it."""

    urls: tuple[str, ...]
    username: str = ""
    credential: str = ""

    def json(self) -> dict[str, Any]:
        login = {"username": self.username, "credential": self.credential} if self.username else {}
        return {"urls": list(self.urls)} | login

    def links(self) -> list[str]:
        """As `Link` headers (RFC 9725, section 4.6)."""
        login = f'; username="{self.username}"; credential="{self.credential}"; credential-type="password"'
        return [f'<{url}>; rel="ice-server"{login if self.username else ""}' for url in self.urls]


class Ice:
    """What the settings say of ICE."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = settings.turn_secret.encode()

    def servers(self, who: str, now: float | None = None) -> list[Server]:
        """For a client. TURN's login is good for `turn_ttl_s` from `now` on (Unix time): the user is `expiry:who`, the password
        its HMAC-SHA1 under the secret that coturn has too (draft-uberti-behave-turn-rest-00)."""
        servers = [Server(self._settings.stun)] if self._settings.stun else []
        if self._settings.turn:
            expiry = int((time.time() if now is None else now) + self._settings.turn_ttl_s)
            user = f"{expiry}:{who}"
            password = base64.b64encode(hmac.digest(self._secret, user.encode(), hashlib.sha1)).decode()
            servers.append(Server(self._settings.turn, user, password))
        return servers

    def configuration(self) -> RTCConfiguration:
        """Our own: everything over one transport; servers only where this one is to be reached by them."""
        servers = self.servers("server") if self._settings.rtc_relay else []
        return RTCConfiguration(
            iceServers=[RTCIceServer(list(one.urls), one.username or None, one.credential or None) for one in servers],
            bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
        )

    def bind(self, connection: Connection) -> None:
        """Have this connection gather as the settings say."""
        ours = self._settings
        gather = partial(gathered, connection, ours.rtc_ports, ours.rtc_addresses, ours.rtc_gather_s)
        setattr(connection, GATHER, gather)

    def public(self, candidates: Sequence[RTCIceCandidate]) -> Iterator[str]:
        """Our candidates as lines of an answer; behind a 1:1 NAT our hosts' are told as the public address instead."""
        for one in candidates:
            ip = self._settings.rtc_public if one.type == "host" and self._translated(one.ip) else one.ip
            line = f"{one.foundation} {one.component} {one.protocol} {one.priority} {ip} {one.port} typ {one.type}"
            yield line + (f" raddr {one.relatedAddress} rport {one.relatedPort}" if one.relatedAddress else "")

    def _translated(self, address: str) -> bool:
        """Whether the NAT translates this one: it is of the same kind of IP."""
        public = self._settings.rtc_public
        return bool(public) and ipaddress.ip_address(public).version == ipaddress.ip_address(address).version


def check() -> None:
    """Raises RuntimeError: this aioice or aiortc is not built as expected."""
    used = ((aioice.ice, name) for name in ("StunProtocol", "server_reflexive_candidate", "relayed_candidate"))
    for where, name in ((Connection, GATHER), *used):
        if not hasattr(where, name):
            raise RuntimeError(f"this aioice has no {name}; WebRTC works with aioice 0.13 and its like")


def usable(lines: Sequence[str], local: bool) -> list[RTCIceCandidate]:
    """The candidates of a peer that may be asked: UDP, an address (not a name), and none that nobody could have meant.

    A server that asks any address that it is told can be made to knock at its neighbours' doors. So loopback is only for a peer
    that is `local` itself, link-local (the metadata service of clouds), multicast and unspecified addresses are for nobody, nor
    are ports below 1024 (as in browsers). A browser's `.local` names are left out too: whoever has one asks us first, and is
    answered where that came from.
    """
    found = [match for line in lines if (match := CANDIDATE.fullmatch(line.removeprefix("candidate:")))]
    taken: list[RTCIceCandidate] = []
    for foundation, component, priority, address, port, kind in (match.groups() for match in found):
        if component == "1" and _may_ask(address, int(port), local) and len(taken) < MOST_CANDIDATES:
            kind = "host" if kind == "prflx" else kind
            taken.append(RTCIceCandidate(1, foundation, address, int(port), int(priority), "udp", kind))
    return taken


def _may_ask(address: str, port: int, local: bool) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return local and 1024 <= port < 1 << 16
    return 1024 <= port < 1 << 16 and not (ip.is_multicast or ip.is_unspecified or ip.is_link_local or ip.is_reserved)


async def gathered(
    connection: Connection,
    ports: tuple[int, int] | None,
    only: Sequence[str],
    seconds: float,
    *,
    component: int,
    addresses: Sequence[str],
) -> list[Candidate]:
    """In place of `Connection.get_component_candidates`: our hosts' candidates, and those that servers give within `seconds`."""
    addresses = [one for one in addresses if not only or one in only] or (list(only) if only else ["127.0.0.1"])
    made = [await _host(connection, component, address, ports) for address in addresses]
    hosts = [one for one in made if one is not None]
    connection._protocols += hosts
    server = connection.stun_server
    asked = [_reflexive(one, server, seconds) for one in hosts if server is not None]
    if connection.turn_server is not None:
        asked.append(_relayed(connection, connection.turn_server, component, seconds))
    found = await asyncio.gather(*asked)
    return [*(one.local_candidate for one in hosts), *(one for one in found if one is not None)]


async def _host(connection: Connection, component: int, address: str, ports: tuple[int, int] | None) -> Any:
    """A socket at this address, as aioice has them; None where there is none to be had."""
    loop = asyncio.get_running_loop()
    make: Callable[[], Any] = lambda: aioice.ice.StunProtocol(connection)  # noqa: E731
    for port in _ports(ports):
        try:
            transport, protocol = await loop.create_datagram_endpoint(make, local_addr=(address, port))
        except OSError:
            continue
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        host, bound = transport.get_extra_info("sockname")[:2]
        foundation, priority = candidate_foundation("host", "udp", host), candidate_priority(component, "host")
        protocol.local_candidate = Candidate(foundation, component, "udp", priority, host, bound, "host")
        return protocol
    return None


def _ports(ports: tuple[int, int] | None) -> Sequence[int]:
    """Those to try, at random: who comes after whom tells nothing, and one just freed is rarely taken again."""
    if ports is None:
        return (0,)
    low, high = ports
    return random.sample(range(low, high + 1), min(TRIES, high + 1 - low))


async def _reflexive(protocol: Any, server: tuple[str, int], seconds: float) -> Candidate | None:
    try:
        async with asyncio.timeout(seconds):
            candidate, _ = await aioice.ice.server_reflexive_candidate(protocol, server)
    except (TimeoutError, OSError, aioice.stun.TransactionError):
        return None
    return candidate


async def _relayed(connection: Connection, server: tuple[str, int], component: int, seconds: float) -> Candidate | None:
    """Of the TURN server; why there is none is for who has set it."""
    try:
        async with asyncio.timeout(seconds):
            candidate, protocol = await aioice.ice.relayed_candidate(
                component=component,
                hide_related_address=False,
                protocol_factory=lambda: aioice.ice.StunProtocol(connection),
                turn_server=server,
                turn_username=connection.turn_username,
                turn_password=connection.turn_password,
                turn_ssl=connection.turn_ssl,
                turn_transport=connection.turn_transport,
            )
    except (TimeoutError, OSError, aioice.stun.TransactionError) as error:
        reason = str(error) or f"no answer within RIVULET_RTC_GATHER_S, {seconds:g} s"
        log.warning("the TURN server gives this server no relay", server=server, reason=reason)
        return None
    connection._protocols.append(protocol)
    return candidate
