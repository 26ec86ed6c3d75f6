"""An honest peer with knobs, to test an application (and this client) without a server or a model.

    async with Peer(Behaviour(delay_s=0.1)) as peer:
        ... rivulet_client.connect(peer.url) ...

Its model: output `k` is the input times `2**-k`, exactly. It reads on only while its output is read, as a server does,
so a client that sends everything before it reads stops for ever here too. Its bytes do not come from the client's codec.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any

from rivulet_client.peer_session import Cut, Session, fail, read_token
from rivulet_client.peer_turns import Script
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol


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
        drop_after: the most bytes of output of the first `drops` connections, which are then cut without a word.
        cuts: connection `i` is cut after `cuts[i]` messages, both ways together; those beyond the list are not.
        cut_code: what such a connection is closed with; None for no word at all.
        resume: whether a session can be resumed: by this peer, or another one of the same behaviour.
        memory: samples before the first missing one that have to be sent again when a session is resumed.
        refuse_resumes: `(error code, close code)` of the answers to the first resumptions.
        retry_after_ms: what a refusal says.
        fatal: `(error code, close code)` in mid-stream, after the first message.
        gap: samples that `start` jumps after the first message.
        miscount: what is added to the samples of `done`.
        complain: whether a non-fatal error comes before the first stems.
        turns: who speaks in the modes `speakers` and `diarize`: `(speaker, first sample, the one after the last)` each.
        shortest: samples of the shortest turn that is one; a shorter one is told and then dropped.
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
    cuts: tuple[int, ...] = ()
    cut_code: int | None = None
    resume: bool = True
    memory: int = 0
    refuse_resumes: tuple[tuple[str, int], ...] = ()
    retry_after_ms: int | None = None
    fatal: tuple[str, int] | None = None
    gap: int = 0
    miscount: int = 0
    complain: bool = False
    turns: Script = ()
    shortest: int = 0


class Peer:
    """A WebSocket server on a local port, a free one by default.

    Attributes:
        starts, resumes: the messages of these types that it got, refused ones too.
        tokens: the `Authorization` of each connection.
        audio: what it heard of each session, as bytes. A replay that differs from it is refused with `bad_audio`.
    """

    def __init__(self, behaviour: Behaviour | None = None, rate: int = 44_100, port: int = 0) -> None:
        self.behaviour, self.rate = behaviour or Behaviour(), rate
        self.starts: list[dict[str, Any]] = []
        self.resumes: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.audio: dict[str, bytearray] = {}
        self._port = port
        self._server: Server | None = None

    async def __aenter__(self) -> Peer:
        self._server = await serve(
            self._session, "127.0.0.1", self._port, subprotocols=[Subprotocol("stems.v1")], compression=None, max_size=1 << 20,
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
        count = len(self.starts) + len(self.resumes)
        cut = self.behaviour.cuts[count] if count < len(self.behaviour.cuts) else None
        try:
            first = json.loads(await socket.recv())
            if first["type"] == "resume":
                await self._resume(socket, first, cut)
            else:
                await self._start(socket, first, cut)
        except (ConnectionClosed, Cut):
            pass

    async def _start(self, socket: ServerConnection, start: dict[str, Any], cut: int | None) -> None:
        self.starts.append(start)
        if self.behaviour.refuse and len(self.starts) <= self.behaviour.refusals:
            return await fail(socket, *self.behaviour.refuse, self.behaviour.retry_after_ms)
        await Session(self, socket, f"s{len(self.starts)}", start, 0, cut).run()

    async def _resume(self, socket: ServerConnection, resume: dict[str, Any], cut: int | None) -> None:
        self.resumes.append(resume)
        if len(self.resumes) <= len(self.behaviour.refuse_resumes):
            refusal = self.behaviour.refuse_resumes[len(self.resumes) - 1]
            return await fail(socket, *refusal, self.behaviour.retry_after_ms)
        name, start = read_token(resume["token"])
        await Session(self, socket, name, start, resume["received"], cut).run()
