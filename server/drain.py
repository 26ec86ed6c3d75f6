"""Leaving without hurting anyone: on the first signal, no new sessions, word to those inside, and time for them to finish.

uvicorn closes every socket within 0.1 s of a SIGTERM, so the signal is taken before its own handler runs; the server stops,
with exit code 0, when the last session is over, or at the deadline; a second signal is uvicorn's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from streaming.wire import ClientError, Draining

Tell = Callable[[Draining], Awaitable[None]]


class Drain:
    """Who is inside, and whether the door is still open. Of one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._inside: set[Tell] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.begun = False

    @contextmanager
    def session(self, tell: Tell) -> Iterator[None]:
        """Someone is inside while this is open; `tell` brings it the word.

        Raises:
            ClientError: `draining`, at the door.
        """
        self.check()
        with self._counted(tell):
            yield

    @contextmanager
    def stay(self) -> Iterator[None]:
        """Someone is inside while this is open who needs no word: its session has it, or had."""

        async def nothing(_: Draining) -> None: ...

        with self._counted(nothing):
            yield

    @contextmanager
    def _counted(self, tell: Tell) -> Iterator[None]:
        self._inside.add(tell)
        self._empty.clear()
        try:
            yield
        finally:
            self._inside.discard(tell)
            if not self._inside:
                self._empty.set()

    def check(self) -> None:
        """Raises ClientError when nobody new is let in."""
        if self.begun:
            raise ClientError("draining", "this server is going away: connect again, to another or a little later")

    async def finish(self) -> None:
        """Close the door, tell everyone, and return when all have left or their time is up."""
        self.begun = True
        word = Draining(round(self._seconds * 1000))
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.gather(*(tell(word) for tell in list(self._inside)), return_exceptions=True)
                await self._empty.wait()
        except TimeoutError:
            pass


class DrainingServer(uvicorn.Server):
    """uvicorn, but the first SIGTERM or SIGINT drains before it stops; the second stops at once."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.begun or self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._drain.begun = True
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        async def drain() -> None:
            await self._drain.finish()
            self.should_exit = (
                True  # not uvicorn's own way, which ends the process by the signal again: this was no failure
            )

        self._draining = asyncio.ensure_future(drain())
