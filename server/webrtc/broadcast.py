"""A session's outputs for whoever listens by WHEP: each encoded once, and on a clock that never holds up the session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from server.house import Running
from server.webrtc.opus import Coding
from server.webrtc.send import Outgoing
from server.webrtc.waiting import first_of
from streaming.framing import Array

log = logging.getLogger(__name__)
TAIL_S = 60.0  # that what a session has told may take to be heard after its end


class Broadcast:
    """Taps a session that sends nothing over WebRTC itself, as long as somebody listens."""

    def __init__(self, session: Running, coding: Coding) -> None:
        self._session = session
        self._listeners = 0
        self._ending: asyncio.Task[None] | None = None
        self.outgoing = Outgoing(session.outputs, session.channels, coding, session.place.start.rate)
        session.taps.add(self)

    def write(self, start: int, pcm: Array) -> None:
        try:
            self.outgoing.write(start, pcm)
        except Exception:  # a listener's trouble is not the session's
            log.exception("a broadcast failed")
            self._close()

    def end(self) -> None:
        """The session is over; the last of it is still to be heard."""
        self._session.taps.discard(self)
        if self._ending is None:
            self._ending = asyncio.create_task(self._finish())

    @contextmanager
    def listener(self) -> Iterator[Outgoing]:
        """Somebody listens while this is open; with the last one it closes."""
        self._listeners += 1
        try:
            yield self.outgoing
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._close()

    @property
    def over(self) -> bool:
        """Whether it is of no use to anybody who comes now."""
        return self._ending is not None or self not in self._session.taps

    async def _finish(self) -> None:
        await first_of(self.outgoing.finish(), seconds=TAIL_S)
        self.outgoing.close()

    def _close(self) -> None:
        self._session.taps.discard(self)
        self.outgoing.close()
        if self._ending is not None:
            self._ending.cancel()
