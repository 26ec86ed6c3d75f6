"""Two network namespaces and a bad line between them.

A TUN device in each, and this process in the middle: it reads an IP packet from one and writes it to the other, later or
never. (netem does the same in a kernel that has it.) Needs root, iproute2 and /dev/net/tun.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"


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
    overtake each other; only UDP is lost (TCP carries the offer, and would only make the test slow)."""

    delay: float = 0.005
    jitter: float = 0.0
    loss: float = 0.0
    passed: int = 0
    lost: int = 0


class Link:
    """The line, and how to run something at either end."""

    def __init__(self, server: str, client: str) -> None:
        self.line = Line()
        self._spaces = {"server": server, "client": client}

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
def link() -> Iterator[Link]:
    names = [f"riv{os.getpid()}{end}" for end in "ab"]
    devices, made, stop = [], [], threading.Event()
    try:
        for name, here, there in zip(names, (SERVER, CLIENT), (CLIENT, SERVER), strict=True):
            _ip("netns", "add", name)
            made.append(name)
            devices.append(_tun(name))
            _ip("link", "set", name, "netns", name)
            _ip("-n", name, "addr", "add", here, "peer", there, "dev", name)
            for device in ("lo", name):
                _ip("-n", name, "link", "set", device, "up")
        two = Link(*names)
        middle = threading.Thread(target=_forward, args=(*devices, two.line, stop))
        middle.start()
        try:
            yield two
        finally:
            stop.set()
            middle.join()
    finally:
        for device in devices:
            os.close(device)
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _forward(one: int, other: int, line: Line, stop: threading.Event) -> None:
    ready, waiting, chance, count = selectors.DefaultSelector(), [], random.Random(1), 0
    ready.register(one, selectors.EVENT_READ, other)
    ready.register(other, selectors.EVENT_READ, one)
    while not stop.is_set():
        soonest = waiting[0][0] - time.monotonic() if waiting else 0.1
        for key, _ in ready.select(max(min(soonest, 0.1), 0)):
            data = os.read(key.fd, 65_536)
            if data[9] == 17 and chance.random() < line.loss:
                line.lost += 1
                continue
            count += 1
            heapq.heappush(
                waiting, (time.monotonic() + line.delay + chance.random() * line.jitter, count, key.data, data)
            )
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, data = heapq.heappop(waiting)
            line.passed += 1
            try:
                os.write(to, data)
            except OSError:
                line.lost += 1  # the other end is gone, or its queue is full
