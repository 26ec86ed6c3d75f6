"""The server from outside: its `/metrics`, and its process where that runs on this machine."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
from rivulet_client.handshake import models_url

from clients.bench import metrics
from clients.bench.metrics import Scrape
from clients.bench.target import get

MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """Of a process and those that it started. `cpu`: s so far; `rss`: bytes; `files`: open descriptors."""

    cpu: float
    rss: int
    threads: int
    files: int


@dataclass(frozen=True)
class Look:
    """One moment, `at` s of a monotonic clock. What cannot be seen is empty or None."""

    at: float
    scrape: Scrape
    usage: Usage | None


def find(url: str, pid: int | None = None) -> psutil.Process | None:
    """The server's process: `pid`, or else what listens on the port of the URL; None if that is not on this machine.

    Raises:
        ValueError: there is no process `pid`.
    """
    try:
        found = pid or _listening(url)
        return psutil.Process(found) if found else None
    except psutil.NoSuchProcess:
        raise ValueError(f"got --pid {pid}, there is no such process") from None


def _listening(url: str) -> int | None:
    parts = urlsplit(models_url(url))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        if not _local(parts.hostname or ""):
            return None
        sockets = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return None
    return next((one.pid for one in sockets if one.status == psutil.CONN_LISTEN and one.laddr.port == port), None)


def _local(host: str) -> bool:
    ours = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(str(found[4][0]) in ours for found in socket.getaddrinfo(host, None))


def usage(process: psutil.Process) -> Usage | None:
    """None when it is gone, or not ours to look at."""
    try:
        family = [process, *process.children(recursive=True)]
        times = [one.cpu_times() for one in family]
        return Usage(
            sum(time.user + time.system for time in times),
            sum(one.memory_info().rss for one in family),
            sum(one.num_threads() for one in family),
            sum(one.num_fds() for one in family),
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def scrape(url: str, token: str | None = None) -> Scrape:
    """Empty where there is no `/metrics` for us."""
    try:
        return metrics.parse(get(models_url(url).replace("/v1/models", "/metrics"), token).decode())
    except (OSError, ValueError):
        return {}


async def look(url: str, token: str | None, process: psutil.Process | None) -> Look:
    """Now."""
    seen = await asyncio.to_thread(scrape, url, token)
    return Look(time.monotonic(), seen, usage(process) if process else None)


def between(before: Look, after: Look) -> dict[str, Any]:
    """What the server did meanwhile, None where it does not say.

    - `loop_lag_p99_ms`: how late its timers fired;  `batch_mean`: windows a run;  `tasks`: of its event loop, at the end
    - `computing`: seconds of model runs a second, all lanes;  `utilisation`: by lane, of the last second only
    - `cpu_cores`: processor seconds a second;  `rss_mib`, `threads`, `files`: at the end
    """
    seconds, (a, b) = after.at - before.at, (before.scrape, after.scrape)
    lag, runs = (
        metrics.quantile(a, b, "rivulet_event_loop_lag_seconds", 0.99),
        metrics.increase(a, b, "rivulet_run_seconds_sum"),
    )
    figures = {
        "loop_lag_p99_ms": None if lag is None else 1000 * lag,
        "batch_mean": metrics.mean(a, b, "rivulet_batch_windows"),
        "computing": None if runs is None else runs / seconds,
        "utilisation": metrics.by(b, "rivulet_utilisation", "lane"),
        "tasks": metrics.value(b, "rivulet_tasks"),
        "late_by_server": metrics.increase(a, b, "rivulet_late_chunks_total"),
    }
    if not (before.usage and after.usage):
        return figures
    used, now = after.usage.cpu - before.usage.cpu, after.usage
    return {
        **figures,
        "cpu_cores": used / seconds,
        "rss_mib": now.rss / MIB,
        "threads": now.threads,
        "files": now.files,
    }
