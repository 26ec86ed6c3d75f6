"""At the server's door: let in or refused, and after how long."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rivulet_client.codec import PROTOCOL, Ready, decode, encode_start
from rivulet_client.errors import CLOSE_CODES
from rivulet_client.handshake import CLOSE_TIMEOUT, MAX_SIZE, close_code, hang_up, stream_url
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from clients.bench.session import Load


@dataclass(frozen=True)
class Refusal:
    """A no. `ms`: from the first packet of the connection to the answer; `close`: the code of the close behind it."""

    code: str
    message: str
    ms: float
    close: int | None = None
    retry_after_ms: int | None = None


@dataclass(frozen=True)
class Admitted:
    """A session that is ready, `ms` after the first packet of its connection."""

    socket: ClientConnection
    ready: Ready
    ms: float


async def enter(load: Load, receive_buffer: int | None = None) -> Admitted | Refusal:
    """Connects, says `start` and waits for the answer, once; a server that is away counts as a refusal, `unreachable`.

    `receive_buffer`: bytes that the kernel holds of what was not read; of the machine's choosing if None.
    """
    now = asyncio.get_running_loop().time
    begun = now()
    try:
        async with asyncio.timeout(load.patience):
            socket = await _dial(load, receive_buffer)
            return await _ask(socket, load, lambda: 1000 * (now() - begun))
    except (OSError, EOFError, InvalidHandshake) as error:  # TimeoutError is an OSError
        return Refusal("unreachable", str(error) or type(error).__name__, 1000 * (now() - begun))


async def _dial(load: Load, receive_buffer: int | None) -> ClientConnection:
    url = stream_url(load.url)
    more: dict[str, Any] = {} if receive_buffer is None else {"sock": await _narrow(url, receive_buffer)}
    if load.token is not None:
        more["additional_headers"] = {"Authorization": f"Bearer {load.token}"}
    return await dial(
        url, subprotocols=[Subprotocol(PROTOCOL)], compression=None, max_size=MAX_SIZE, open_timeout=None,
        close_timeout=CLOSE_TIMEOUT, ping_interval=None, **more,
    )  # fmt: skip


async def _narrow(url: str, size: int) -> sockets.socket:
    """A TCP connection whose receive buffer was small before the window was first announced."""
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    family, *_, address = (await loop.getaddrinfo(parts.hostname, port, type=sockets.SOCK_STREAM))[0]
    made = sockets.socket(family, sockets.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, size)
    await loop.sock_connect(made, address)
    return made


async def _ask(socket: ClientConnection, load: Load, ms: Callable[[], float]) -> Admitted | Refusal:
    try:
        await socket.send(encode_start(load.start))
        while not isinstance(text := await socket.recv(), str) or json.loads(text)["type"] not in ("ready", "error"):
            pass
        at, body = ms(), json.loads(text)
        if body["type"] == "ready":
            ready = decode(text)
            assert isinstance(ready, Ready)
            return Admitted(socket, ready, at)
        code = await close_code(socket)
        await hang_up(socket)
        return Refusal(body["code"], body["message"], at, code, body.get("retry_after_ms"))
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else None
        return Refusal(CLOSE_CODES.get(code or 0, "unreachable"), str(closed), ms(), code)
    except BaseException:
        socket.transport.abort()
        raise
