"""A session whose client stops reading, and what the server had sent by then (clients/bench/stall.py says how it counts)."""

from __future__ import annotations

import array
import asyncio
import math
from dataclasses import dataclass

from rivulet_client.codec import FORMATS
from rivulet_client.errors import RivuletError
from websockets.exceptions import ConnectionClosed

from clients.bench.feed import Feed

DRAINING = 10.0  # s that reading everything may take


@dataclass(frozen=True)
class Stalled:
    """How a stalled session ended: close `code` (1006: none came), `error` that came before it, and hidden audio in s.

    NaN: the server had not ended it (`ended`), or does not say when (`ended_s`).
    """

    ended: bool
    code: int
    error: str | None
    ended_s: float
    drained_s: float
    client_s: float
    hidden_s: float


async def stall(feed: Feed) -> None:
    """Reads what has come, then never again. Sending goes on."""
    feed.receiving.cancel()
    await asyncio.gather(feed.receiving, return_exceptions=True)
    feed.socket.transport.pause_reading()
    try:
        while True:
            async with asyncio.timeout(0):  # what is there comes without waiting
                feed.take(await feed.socket.recv())
    except TimeoutError:
        feed.socket.transport.pause_reading()  # `recv` resumes it when many messages had piled up


async def drain(feed: Feed, ended_s: float | None) -> Stalled:
    """Reads again, up to the close. Nothing more is sent, so what comes was sent before, if the session was over."""
    feed.sending.cancel()
    await asyncio.gather(feed.sending, return_exceptions=True)
    told, kernel = feed.told, _unread(feed)
    feed.socket.transport.resume_reading()
    error, code = await _read(feed)
    drained = (feed.told - told) / feed.load.start.rate
    client = min(kernel / _bytes_per_second(feed), drained)
    await feed.leave()
    if code is None:
        return Stalled(False, 1006, error, math.nan, drained, client, math.nan)
    return Stalled(True, code, error, math.nan if ended_s is None else ended_s, drained, client, drained - client)


async def _read(feed: Feed) -> tuple[str | None, int | None]:
    """The code of the fatal error and of the close, None for what did not come."""
    error = None
    try:
        async with asyncio.timeout(DRAINING):
            while True:
                try:
                    feed.take(await feed.socket.recv())
                except RivuletError as fatal:
                    error = fatal.code
    except ConnectionClosed as closed:
        return error, closed.rcvd.code if closed.rcvd else 1006
    except TimeoutError:
        return error, None


def _unread(feed: Feed) -> int:
    """Bytes in the kernel's receive queue; 0 where that cannot be asked."""
    try:
        import fcntl
        import termios
    except ImportError:
        return 0
    size = array.array("i", [0])
    fcntl.ioctl(feed.socket.transport.get_extra_info("socket").fileno(), termios.FIONREAD, size)
    return size[0]


def _bytes_per_second(feed: Feed) -> float:
    """Of output, without headers."""
    ready = feed.ready
    return len(ready.stems) * ready.channels * FORMATS[ready.format].itemsize * ready.rate
