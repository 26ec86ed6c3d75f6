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
