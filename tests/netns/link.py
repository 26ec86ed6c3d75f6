"""Network namespaces and a bad line between them.

A TUN device in each, and this process in the middle: it reads an IP packet from one and writes it to the one that it is for,
later or never. (netem does the same in a kernel that has it.) Needs root, iproute2 and /dev/net/tun.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
SERVER, CLIENT, RELAY = "10.77.0.1", "10.77.0.2", "10.77.0.3"
ADDRESSES = {"server": SERVER, "client": CLIENT, "relay": RELAY}
UDP = 17


def missing() -> str | None:
    """What a test has to be skipped for."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs iproute2"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    made = subprocess.run(["ip", "netns", "add", probe := f"rivulet{os.getpid()}p"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True)
    return f"cannot make a network namespace: {made.stderr.strip()}" if made.returncode else None


@dataclass
class Line:
    """What happens to every IP packet, in both directions; may be changed at any time. Seconds. `jitter` is uniform, and packets
    overtake each other; only UDP is lost (TCP carries the offer, and would only make the test slow), and between two addresses
    with a wall between them all of it, as by a firewall: that is counted as `stopped`. `udp`: what passed from one address to
    another."""

    delay: float = 0.005
    jitter: float = 0.0
    loss: float = 0.0
    passed: int = 0
    lost: int = 0
    walls: frozenset[frozenset[str]] = frozenset()
    stopped: int = 0
    udp: Counter[tuple[str, str]] = field(default_factory=Counter)

    def wall(self, *pairs: tuple[str, str]) -> None:
        self.walls = frozenset(frozenset(pair) for pair in pairs)


class Link:
    """The line, and how to run something at an end of it."""

    def __init__(self, spaces: Mapping[str, str]) -> None:
        self.line = Line()
        self._spaces = spaces

    def at(self, end: str) -> list[str]:
        """What a command begins with to run there."""
        return ["ip", "netns", "exec", self._spaces[end]]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), TUN_WITHOUT_HEADER))
    return device


@contextmanager
def link(*ends: str) -> Iterator[Link]:
    """Namespaces of these names out of `ADDRESSES`: of a server and a client, if nothing is said."""
    spaces = {end: f"riv{os.getpid()}{end[0]}" for end in ends or ("server", "client")}
    devices: dict[bytes, int] = {}
    made, stop = [], threading.Event()
    try:
        for end, name in spaces.items():
            _ip("netns", "add", name)
            made.append(name)
            devices[socket.inet_aton(ADDRESSES[end])] = _tun(name)
            _ip("link", "set", name, "netns", name)
            _ip("-n", name, "addr", "add", f"{ADDRESSES[end]}/24", "dev", name)
            for device in ("lo", name):
                _ip("-n", name, "link", "set", device, "up")
        several = Link(spaces)
        middle = threading.Thread(target=_forward, args=(devices, several.line, stop))
        middle.start()
        try:
            yield several
        finally:
            stop.set()
            middle.join()
    finally:
        for device in devices.values():
            os.close(device)
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _forward(devices: Mapping[bytes, int], line: Line, stop: threading.Event) -> None:
    ready, waiting, chance, count = (
        selectors.DefaultSelector(),
        list[tuple[float, int, int, bytes]](),
        random.Random(1),
        0,
    )
    for device in devices.values():
        ready.register(device, selectors.EVENT_READ)
    while not stop.is_set():
        soonest = waiting[0][0] - time.monotonic() if waiting else 0.1
        for key, _ in ready.select(max(min(soonest, 0.1), 0)):
            data = os.read(key.fd, 65_536)
            to = devices.get(
                data[16:20]
            )  # of IPv4: the version is in the first half byte, the protocol in the tenth byte
            if to is None or data[0] >> 4 != 4 or not _passes(data, line, chance):
                continue
            count += 1
            heapq.heappush(waiting, (time.monotonic() + line.delay + chance.random() * line.jitter, count, to, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, data = heapq.heappop(waiting)
            line.passed += 1
            try:
                os.write(to, data)
            except OSError:
                line.lost += 1  # the other end is gone, or its queue is full


def _passes(data: bytes, line: Line, chance: random.Random) -> bool:
    """Whether this packet gets to the other side at all; counts it."""
    if data[9] != UDP:
        return True
    ends = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    if frozenset(ends) in line.walls:
        line.stopped += 1
        return False
    if chance.random() < line.loss:
        line.lost += 1
        return False
    line.udp[ends] += 1
    return True
