"""A new connection for a session that lost its own: patient, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rivulet_client.codec import Ready, Resume
from rivulet_client.errors import Refused, Unreachable
from rivulet_client.patience import backoff, passing, pause
from websockets.asyncio.client import ClientConnection

Dial = Callable[[Resume], Awaitable[tuple[ClientConnection, Ready]]]
MOST_PAUSE = 4.0  # s between tries
STARTING = {"internal", "timeout"}  # refusals of a server that is just going or just coming


class NotResumed(Exception):
    """The session is lost; the text says why."""


class Redial:
    """Of one session. `seconds`: how long it is tried after a break, 0 for not at all.

    They are counted from the first break after which nothing came back: a server that takes the session up and drops it
    again, over and over, is given up too, and is not asked without a pause.
    """

    def __init__(self, dial: Dial, seconds: float) -> None:
        self._dial, self._seconds = dial, seconds
        self._received, self._until, self._delays = -1, 0.0, backoff()

    async def __call__(self, token: str | None, received: int) -> tuple[ClientConnection, Ready]:
        """A connection on which `resume` was answered by `ready`.

        Raises:
            NotResumed: there is no token, the server refused it for good, or the time is over.
            ProtocolError: what answered does not speak `stems.v1`.
        """
        if token is None or self._seconds <= 0:
            raise NotResumed("resuming was not asked for" if token else "this server gives nothing to resume with")
        again, self._received = self._received == received, received
        if not again:
            self._until = asyncio.get_running_loop().time() + self._seconds
            self._delays = backoff(most=MOST_PAUSE)
        try:
            async with asyncio.timeout_at(self._until):
                if again:
                    await asyncio.sleep(next(self._delays))
                return await self._try(Resume(token, received))
        except TimeoutError:
            raise NotResumed(f"no server went on with the session within {self._seconds:g} s") from None
        except Refused as refused:
            raise NotResumed(f"the session could not be resumed ({refused})") from refused

    async def _try(self, resume: Resume) -> tuple[ClientConnection, Ready]:
        while True:
            try:
                return await self._dial(resume)
            except (Unreachable, Refused) as error:
                if not passing(error) and error.code not in STARTING:
                    raise
                wait = pause(error, next(self._delays))
            await asyncio.sleep(wait)
