"""What goes wrong on purpose, and those who must not notice it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import serving
import zoo
from fuzz import frames
from fuzz.frames import Sent

from streaming.framing import Array

END = json.dumps({"type": "end"})
RATE = 16_000


async def until(true: Callable[[], Any], seconds: float = 20) -> None:
    """Waits until it is so; `true` may block."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.05)


def packets(pcm: Array, first: int = 0, last: int | None = None, size: int = 1600) -> list[bytes]:
    """Mono PCM in f32le, in packets of 100 ms."""
    end = pcm.shape[1] if last is None else last
    return [pcm[0, at : min(at + size, end)].astype("<f4").tobytes() for at in range(first, end, size)]


def split(pcm: Array) -> Array:
    """What `toy-split` makes of mono PCM, `[2, 1, T]`."""
    return np.stack((pcm * np.float32(0.25), pcm * np.float32(0.75)))


async def bystander(host: str, pace_s: float = 0.02) -> None:
    """A session to which nothing may happen: every sample, right, and a normal close."""
    pcm = zoo.audio(1, 2 * RATE)
    async with serving.connect(host) as peer:
        await peer.send(serving.start("toy-split"))
        reading = asyncio.create_task(serving.read_all(peer))
        for packet in packets(pcm):
            await peer.send(packet)
            await asyncio.sleep(pace_s)
        await peer.send(END)
        stems, texts = await reading
        assert (texts[-1], peer.close_code) == ({"type": "done", "samples": 2 * RATE}, 1000)
        np.testing.assert_allclose(stems, split(pcm), atol=1e-6)


async def go_on(host: str, token: str, received: int, pcm: Array) -> Array:
    """The rest of a mono session whose connection was lost, to its end."""
    async with serving.connect(host) as peer:
        await peer.send(json.dumps({"type": "resume", "token": token, "received": received}))
        ready = json.loads(await peer.recv())
        assert ready["type"] == "ready", ready
        reading = asyncio.create_task(serving.read_all(peer, received))
        for message in (*packets(pcm, ready["replay_from"]), END):
            await peer.send(message)
        stems, texts = await reading
        assert texts[-1] == {"type": "done", "samples": pcm.shape[1]}
        assert stems is not None
        return stems


@asynccontextmanager
async def raw(host: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """An open WebSocket without a library behind it; what is not read stays in the kernel. Left without a word."""
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port), limit=1 << 10)
    writer.write(frames.handshake("/v1/stream", random.Random(0)))
    try:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        yield reader, writer
    finally:
        await _abort(writer)


async def say(writer: asyncio.StreamWriter, message: str | bytes) -> None:
    opcode, data = (frames.TEXT, message.encode()) if isinstance(message, str) else (frames.BINARY, message)
    writer.write(Sent(opcode, data).bytes(random.Random(0)))
    await writer.drain()


async def pour(writer: asyncio.StreamWriter) -> None:
    """A file of silence without end, until nothing more is taken."""
    with suppress(ConnectionError):
        await say(writer, serving.start("toy-split", live=False))
        while True:
            await say(writer, bytes(400_000))


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


class Cable:
    """A TCP connection between a client and a server that can be cut without either being told."""

    def __init__(self, host: str) -> None:
        self._host, self._pumps, self._ends = host, list[asyncio.Task[None]](), list[asyncio.StreamWriter]()

    @asynccontextmanager
    async def plugged(self) -> AsyncIterator[str]:
        """The address at which to connect."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        finally:
            self.cut()
            await asyncio.gather(*self._pumps, return_exceptions=True)
            await asyncio.gather(*map(_abort, self._ends))
            listener.close()

    def cut(self) -> None:
        """From now on nothing comes through, and the sockets on both sides stay open."""
        for pump in self._pumps:
            pump.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, _, port = self._host.partition(":")
        far_reader, far_writer = await asyncio.open_connection(name, int(port))
        for one, other in ((reader, far_writer), (far_reader, writer)):
            self._pumps.append(asyncio.create_task(_pump(one, other)))
            self._ends.append(other)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
