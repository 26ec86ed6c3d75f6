"""From a URL to a session that is ready, with patience for a server that is away or full."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rivulet_client.codec import PROTOCOL, Error, Ready, Resume, Start, decode, encode_start
from rivulet_client.credentials import Token, authorization
from rivulet_client.errors import CLOSE_CODES, ProtocolError, Refused, Unreachable
from rivulet_client.patience import backoff, passing, pause
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

MAX_SIZE = 64 << 20  # bytes of one message; 4 stems of stereo f32 at 48 kHz fill it in 43 s
# A pong waits behind the PCM that the server has not taken yet. Socket buffers hold some MiB, which is up to 20 s of
# 44.1 kHz stereo f32; a server three times slower than the audio needs a minute for it. Less would cut such a session.
PING_TIMEOUT = 60.0
CLOSE_TIMEOUT = 2.0
AWAY = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that may pass


def stream_url(url: str) -> str:
    """`ws://host:8000`, `https://host/prefix/` or the whole address of the stream, as the address of the stream."""
    return urlunsplit(_split(url, {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}, "/v1/stream"))


def models_url(url: str) -> str:
    """The address of the list of models of the same server."""
    base = url.rstrip("/").removesuffix("/v1/stream")
    return urlunsplit(_split(base, {"http": "http", "https": "https", "ws": "http", "wss": "https"}, "/v1/models"))


def _split(url: str, schemes: dict[str, str], tail: str) -> tuple[str, str, str, str, str]:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"got the address {url!r}, expected one like ws://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    return schemes[parts.scheme], parts.netloc, path if path.endswith(tail) else path + tail, parts.query, ""


async def open_session(
    url: str, start: Start, *, token: Token | None, patience: float, retries: int, tls: ssl.SSLContext | None = None
) -> tuple[ClientConnection, Ready]:
    """A connection on which `start` was answered by `ready`.

    Tries again, at most `retries` times and not before the server's `retry_after_ms`, when nobody answers or the server is
    full or draining; any other refusal would be the same the next time. `patience` s bound the opening and the wait for
    `ready`, each.

    Raises:
        Unreachable, Refused, ProtocolError.
    """
    for delay, _ in zip(backoff(), range(retries), strict=False):
        try:
            return await attempt(url, start, token, patience, tls)
        except (Unreachable, Refused) as error:
            if not passing(error):
                raise
            wait = pause(error, delay)
        await asyncio.sleep(wait)
    return await attempt(url, start, token, patience, tls)


async def attempt(
    url: str, first: Start | Resume, token: Token | None, patience: float, tls: ssl.SSLContext | None
) -> tuple[ClientConnection, Ready]:
    """One try of the same, or of going on with a session."""
    socket = await _dial(stream_url(url), token, patience, tls)
    try:
        async with asyncio.timeout(patience):
            await socket.send(encode_start(first))
            ready = await _ready(socket)
        _check(first, ready)
        return socket, ready
    except TimeoutError:
        await hang_up(socket)
        raise Refused("timeout", f"no ready within {patience:g} s; the server may be loading the model") from None
    except ConnectionClosed as closed:
        raise _refusal(url, closed) from None
    except BaseException:
        await hang_up(socket)
        raise


def _check(first: Start | Resume, ready: Ready) -> None:
    rate, format = (first.rate, first.format) if isinstance(first, Start) else (ready.rate, ready.format)
    if (ready.protocol, ready.rate, ready.format) != (PROTOCOL, rate, format):
        got = f"{ready.protocol} at {ready.rate} Hz in {ready.format}"
        raise ProtocolError(f"got a session of {got}, expected {PROTOCOL} at {rate} Hz in {format}")


def _refusal(url: str, closed: ConnectionClosed) -> Refused | Unreachable:
    code = closed.rcvd.code if closed.rcvd else None
    if code in CLOSE_CODES and code != 1011:  # a fault of its own a server tells before; so this one went away
        return Refused(CLOSE_CODES[code], closed.rcvd.reason if closed.rcvd else "", code)
    return Unreachable(f"{url} closed the connection before it was ready ({closed})")


async def _dial(url: str, token: Token | None, patience: float, tls: ssl.SSLContext | None) -> ClientConnection:
    secure: dict[str, Any] = {"ssl": tls} if tls is not None else {}
    try:
        return await dial(
            url,
            subprotocols=[Subprotocol(PROTOCOL)],
            compression=None,
            max_size=MAX_SIZE,
            open_timeout=patience,
            close_timeout=CLOSE_TIMEOUT,
            ping_timeout=PING_TIMEOUT,
            additional_headers=await authorization(token),
            **secure,
        )
    except InvalidStatus as error:
        raise _no(url, error) from None
    except ssl.SSLCertVerificationError as error:
        raise Refused("certificate", f"{url}: {error.verify_message}") from None
    except (OSError, EOFError, InvalidHandshake) as error:  # TimeoutError is an OSError
        raise Unreachable(f"{url}: {error or type(error).__name__}") from error


def _no(url: str, error: InvalidStatus) -> Refused | Unreachable:
    status, after = error.response.status_code, error.response.headers.get("Retry-After", "")
    message = f"{url} answered with HTTP {status}"
    if status in AWAY:
        return Unreachable(message, 1000 * int(after) if after.isascii() and after.isdigit() else None)
    return Refused("unauthorized" if status in (401, 403) else "http", message)


async def _ready(socket: ClientConnection) -> Ready:
    while True:
        text = await socket.recv()
        message = decode(text) if isinstance(text, str) else None
        if isinstance(message, Ready):
            return message
        if isinstance(message, Error) and message.fatal:
            raise Refused(message.code, message.message, await close_code(socket), message.retry_after_ms)
        if not isinstance(text, str):
            raise ProtocolError(f"got {len(text)} bytes of audio, expected ready")


async def hang_up(socket: ClientConnection) -> None:
    """Closes, in bounded time: a closing frame waits behind all that the server has not taken yet."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await socket.close()
    except TimeoutError:
        socket.transport.abort()
        await socket.wait_closed()


async def close_code(socket: ClientConnection) -> int | None:
    """The code of the close that follows a fatal error; None when none comes."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    except TimeoutError:
        return None
