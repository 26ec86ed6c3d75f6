"""An honest peer with knobs, to test an application (and this client) without a server or a model.

    async with Peer(Behaviour(delay_s=0.1)) as peer:
        ... rivulet_client.connect(peer.url) ...

Its model: output `k` is the input times `2**-k`, exactly. It reads on only while its output is read, as a server does,
so a client that sends everything before it reads stops for ever here too. Its bytes do not come from the client's codec.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Behaviour:
    """What the peer does, right or wrong.

    Attributes:
        stems: names of the outputs of its model.
        tick: samples a message.
        hold: samples kept back until more have come; declared in `latency_samples`.
        delay_s: how long each message waits before it leaves, while later ones are made: latency, not slowness.
        slow_s: how long making each message takes.
        promise_ms: the declared `latency_ms`; that of `hold`, `tick` and `delay_s` if None.
        refuse: `(error code, close code)` of the answer to `start`, for the first `refusals` sessions.
        drop_after: the most bytes of output of the first `drops` sessions, which are then cut without a word.
        fatal: `(error code, close code)` in mid-stream, after the first message.
        gap: samples that `start` jumps after the first message.
        miscount: what is added to the samples of `done`.
        complain: whether a non-fatal error comes before the first stems.
    """

    stems: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    tick: int = 441
    hold: int = 0
    delay_s: float = 0.0
    slow_s: float = 0.0
    promise_ms: float | None = None
    refuse: tuple[str, int] | None = None
    refusals: int = 1 << 30
    drop_after: int | None = None
    drops: int = 1 << 30
    fatal: tuple[str, int] | None = None
    gap: int = 0
    miscount: int = 0
    complain: bool = False


class Peer:
    """A WebSocket server on a free local port. `starts`: the `start` messages it got; `tokens`: the keys with them."""

    def __init__(self, behaviour: Behaviour | None = None, rate: int = 44_100) -> None:
        self.behaviour, self.rate = behaviour or Behaviour(), rate
        self.starts: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self._server: Server | None = None

    async def __aenter__(self) -> Peer:
        self._server = await serve(
            self._session, "127.0.0.1", 0, subprotocols=[Subprotocol("stems.v1")], compression=None, max_size=1 << 20,
            process_request=self._http,
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._server.close()
        try:
            await asyncio.wait_for(self._server.wait_closed(), 2.0)
        except TimeoutError:  # a client that does not read keeps the closing frame out
            for socket in self._server.connections:
                socket.transport.abort()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        """`ws://127.0.0.1:port`."""
        assert self._server is not None, "the peer is not running"
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    def _http(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.path == "/v1/stream":
            return None
        latency = {"min": 1000 * self.behaviour.delay_s, "default": 1000 * self.behaviour.delay_s}
        model = {"name": "toy", "default_for": "music", "rate": self.rate, "channels": 2, "latency_ms": latency}
        sources = {"sources": self.behaviour.stems}
        found = request.path == "/v1/models"
        body = json.dumps([{**model, **sources}]) if found else "no such page\n"
        return socket.respond(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, body)

    async def _session(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.tokens.append(socket.request.headers.get("Authorization"))
        try:
            start = json.loads(await socket.recv())
            self.starts.append(start)
            if self.behaviour.refuse and len(self.starts) <= self.behaviour.refusals:
                return await _fail(socket, *self.behaviour.refuse)
            await _Session(socket, start, self.behaviour, len(self.starts) <= self.behaviour.drops).run()
        except ConnectionClosed:
            pass


async def _fail(socket: ServerConnection, code: str, close_code: int) -> None:
    await socket.send(json.dumps({"type": "error", "code": code, "message": f"no: {code}", "fatal": True}))
    await socket.close(close_code)


class _Session:
    def __init__(self, socket: ServerConnection, start: dict[str, Any], behaviour: Behaviour, droppable: bool) -> None:
        self.socket, self.start, self.behaviour, self.droppable = socket, start, behaviour, droppable
        self.floats = start["format"] == "f32le"
        self.mix = start.get("output") == "mix"
        self.stems = ["mix"] if self.mix else start.get("stems") or list(behaviour.stems)
        self.gains: dict[str, float] = {**dict.fromkeys(behaviour.stems, 1.0), **start.get("gains", {})}
        self.channels = 1 if start.get("mono") else start["channels"]
        self.heard = self.told = self.out = self.jump = 0
        self.audio = np.zeros((start["channels"], 0), np.float32)
        self.marks: deque[tuple[int, str]] = deque()
        self.queue: asyncio.Queue[tuple[float, str | bytes] | None] = asyncio.Queue(maxsize=64)

    async def run(self) -> None:
        latency = self.behaviour.hold + self.behaviour.tick
        rate = self.start["rate"]
        promise = self.behaviour.promise_ms
        declared = 1000 * (latency / rate + self.behaviour.delay_s) if promise is None else promise
        sizes = {"latency_samples": latency, "latency_ms": declared, "rate": rate, "channels": self.channels}
        names = {"session": "s1", "model": self.start["model"], "stems": self.stems, "format": self.start["format"]}
        await self.socket.send(json.dumps({"type": "ready", "protocol": "stems.v1", **names, **sizes}))
        reader = asyncio.create_task(self.read())
        try:
            await self.pump()
        finally:
            reader.cancel()
            (error,) = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(error, Exception) and not isinstance(error, ConnectionClosed):
            raise error

    async def read(self) -> None:
        try:
            await self.listen()
        except Exception:
            await self.queue.put(None)
            raise
        await self.queue.put(None)  # not in a `finally`: cancelled, nobody takes from the queue any more

    async def listen(self) -> None:
        if self.behaviour.complain:
            body = {"type": "error", "code": "not_finite", "message": "got nan at sample 0", "fatal": False}
            await self.say(body)
        async for message in self.socket:
            if isinstance(message, bytes):
                self.hear(message)
                await self.tell(self.behaviour.hold + self.behaviour.tick)
            elif (body := json.loads(message))["type"] == "mark":
                self.marks.append((self.heard, body["id"]))
                await self.come_by()
            elif body["type"] == "gains":
                self.gains.update(body["gains"])
            else:
                await self.tell(1)
                await self.say({"type": "done", "samples": self.heard + self.behaviour.miscount})
                return

    def hear(self, data: bytes) -> None:
        flat = np.frombuffer(data, "<f4" if self.floats else "<i2").reshape(-1, self.start["channels"]).T
        audio = flat.astype(np.float32) if self.floats else flat.astype(np.float32) / 32768
        self.audio = np.concatenate((self.audio, audio), axis=1)
        self.heard += audio.shape[1]

    async def tell(self, least: int) -> None:
        """Everything of which at least `least` samples are there, tick by tick."""
        at = 0
        while self.heard - self.told >= least:
            audio = self.audio[:, at : at + min(self.behaviour.tick, self.heard - self.told)]
            at += audio.shape[1]
            if self.behaviour.slow_s:
                await asyncio.sleep(self.behaviour.slow_s)
            await self.put(self.stem_bytes(audio))
            self.told += audio.shape[1]
            self.jump = self.behaviour.gap
            await self.between(self.told - audio.shape[1])
        self.audio = self.audio[:, at:]

    async def between(self, before: int) -> None:
        await self.come_by()
        rate = self.start["rate"]
        if self.told // rate > before // rate:
            compute = {"compute_p50_ms": 2.0, "compute_p95_ms": 3.0, "queue_p95_ms": 0.5, "lag_ms": 5.0}
            await self.say({"type": "stats", "heard": self.heard, "told": self.told, **compute})

    async def come_by(self) -> None:
        while self.marks and self.marks[0][0] <= self.told:
            sample, id = self.marks.popleft()
            await self.say({"type": "mark", "id": id, "sample": sample})

    def stem_bytes(self, audio: Samples) -> bytes:
        if self.start.get("mono"):
            audio = audio.mean(axis=0, keepdims=True, dtype=np.float32)
        levels = {name: 2.0**-k for k, name in enumerate(self.behaviour.stems)}
        others = {f"no_{name}": sum(levels.values()) - level for name, level in levels.items()}
        levels = {**levels, **others, "mix": sum(self.gains[name] * level for name, level in levels.items())}
        parts = [audio.T * np.float32(levels[name]) for name in self.stems]
        head = struct.pack("<BBBB", 1, int(self.floats), len(parts), self.channels)
        head += struct.pack("<IQ", audio.shape[1], self.told + self.jump)
        if self.floats:
            return head + b"".join(part.astype("<f4").tobytes() for part in parts)
        return head + b"".join(np.clip(np.rint(part * 32768), -32768, 32767).astype("<i2").tobytes() for part in parts)

    async def say(self, body: dict[str, Any]) -> None:
        await self.put(json.dumps(body))

    async def put(self, message: str | bytes) -> None:
        await self.queue.put((asyncio.get_running_loop().time() + self.behaviour.delay_s, message))

    async def pump(self) -> None:
        while (item := await self.queue.get()) is not None:
            due, message = item
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if isinstance(message, bytes) and await self.interrupted(len(message)):
                return
            await self.socket.send(message)
        await self.socket.close(1000)

    async def interrupted(self, size: int) -> bool:
        """Whether the session ends here, before a message of `size` bytes."""
        before, self.out = self.out, self.out + size
        if self.droppable and self.behaviour.drop_after is not None and self.out > self.behaviour.drop_after:
            self.socket.transport.abort()
            return True
        if self.behaviour.fatal and before:
            await _fail(self.socket, *self.behaviour.fatal)
            return True
        return False
