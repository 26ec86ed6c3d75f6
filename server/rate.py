"""How often something may happen a minute, by network address."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TTLCache

WINDOW_S = 60.0
MOST_ADDRESSES = 1 << 16  # remembered; beyond them the one that was seen longest ago is forgotten


@dataclass
class _Count:
    since: float
    times: int = 0


class Rate:
    """At most `limit` times within a minute of the first; 0: no limit."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._counts: TTLCache[str, _Count] = TTLCache(MOST_ADDRESSES, WINDOW_S, clock)

    def hit(self, address: str) -> float:
        """It happens once more. 0 if it may, else the seconds until it may; what may not is not counted."""
        if wait := self.wait(address):
            return wait
        if self._limit:
            self._counts.setdefault(network(address), _Count(self._clock())).times += 1
        return 0.0

    def wait(self, address: str) -> float:
        """The seconds until it may happen again; 0 for now."""
        count = self._counts.get(network(address))
        if not self._limit or count is None or count.times < self._limit:
            return 0.0
        return max(count.since + WINDOW_S - self._clock(), 0.001)


def network(address: str) -> str:
    """What one client owns: an IPv4 address, but of IPv6 a /64. What is no address counts as one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
