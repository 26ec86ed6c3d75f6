"""One session over as many connections as it takes: a task that reads, one that writes, and the way from one to the next.

Everything that is said goes into the journal first; the writer follows it. So a connection that breaks in the middle of a
message, or during a replay, is no special case: the journal is wound back, and a new writer follows it from there. The
reader takes all that the lost connection had brought before it looks for a new one, and reads while a replay is written.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rivulet_client.account import Account, Event
from rivulet_client.bell import Bell
from rivulet_client.codec import Done, Error, Mark, Ready
from rivulet_client.errors import CLOSE_CODES, ConnectionLost, SessionError
from rivulet_client.handshake import close_code, hang_up
from rivulet_client.journal import Entry, Journal
from rivulet_client.redial import NotResumed, Redial
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

WAITING = 16  # events that may wait for the iterator before the socket is left alone
RESTART = {1011, 1012}  # closes of a server that goes away; an error of its own it tells before


class _Broken(Exception):
    """The connection ended, and the session need not."""


class Line:
    """From the first `ready` on, until `close`. What ends the session is raised wherever one waits for it."""

    def __init__(self, socket: ClientConnection, ready: Ready, redial: Redial) -> None:
        self.journal = Journal()
        self.account = Account(ready, self.journal)
        self.resumes = 0
        self._socket, self._redial = socket, redial
        self._inbox: deque[Event] = deque()
        self._said, self._heard = Bell(), Bell()
        self._broken = self._done = False
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._run())

    async def say(self, entry: Entry) -> None:
        """Returns when this entry of the journal is on its way. Raises what ended the session."""
        self._said.ring()
        await self._said.until(lambda: self.journal.given(entry) or self._failure is not None)
        self.check()

    def check(self) -> None:
        """Raises what ended the session."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    async def event(self) -> Event | None:
        """The next event; None after `Done`. Raises what ended the session, after all that had come before."""
        await self._heard.until(lambda: bool(self._inbox) or self._done or self._failure is not None)
        if not self._inbox:
            self.check()
            return None
        self._heard.ring()
        return self._inbox.popleft()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await hang_up(self._socket)

    async def _run(self) -> None:
        try:
            while not self._done:
                try:
                    await self._converse()
                except _Broken as broken:
                    await self._resume(str(broken))
        except Exception as error:
            self._failure = error
        except asyncio.CancelledError:
            self._failure = self._lost("the stream was closed")
            raise
        finally:
            self._said.ring()
            self._heard.ring()

    async def _converse(self) -> None:
        """Both ways at once, until `done`, or the end of the connection."""
        self._broken = False
        writer = asyncio.create_task(self._write(self._socket))
        try:
            await self._read(self._socket)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await self._said.until(lambda: bool(self.journal.ahead))
                if (entry := self.journal.next()) is not None:
                    await socket.send(entry.data)
                    self.journal.took()
                    self._said.ring()
                    await asyncio.sleep(0)  # a send into free buffers does not wait, and the reader must not starve
        except ConnectionClosed:
            self._broken = True  # the reader meets the same end, with the server's last words before it
            self._heard.ring()

    async def _read(self, socket: ClientConnection) -> None:
        while not self._done:
            try:
                events = self.account.take(await socket.recv())
            except ConnectionClosed as closed:
                raise _end(closed) from None
            for event in events:
                if isinstance(event, Error) and event.fatal:
                    raise await _fatal(event, socket)
                await self._hand(event)
                self._done = isinstance(event, Done)

    async def _hand(self, event: Event) -> None:
        """To the iterator, and no more than it takes; what a lost connection had brought is bounded already."""
        await self._heard.until(lambda: len(self._inbox) < WAITING or self._broken)
        self._inbox.append(event)
        self._heard.ring()

    async def _resume(self, reason: str) -> None:
        """A new connection for the same session, and the journal wound back to where it begins."""
        try:
            self._socket, ready = await self._redial(self.account.token, self.account.received)
        except NotResumed as error:
            raise self._lost(f"{reason}; {error}") from error.__cause__
        self.account.resumed(ready)
        for id, sample in self.journal.rewind(ready.replay_from):
            await self._hand(Mark(id, sample))
        self.resumes += 1

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(reason, self.journal.sent, self.account.received)


def _end(closed: ConnectionClosed) -> Exception:
    code = closed.rcvd.code if closed.rcvd else None
    if code in CLOSE_CODES and code not in RESTART:
        reason = closed.rcvd.reason if closed.rcvd else ""
        return SessionError(CLOSE_CODES[code], reason or f"the server closed with code {code}", code)
    return _Broken(f"the connection ended before done ({closed})")


async def _fatal(error: Error, socket: ClientConnection) -> Exception:
    code = await close_code(socket)
    if error.code == "draining":
        return _Broken(error.message)
    return SessionError(error.code, error.message, code)
