"""Who is connected over WebRTC, by the id in the address that it was given; bounded, so that offers alone cost little."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

from server.auth import Identity
from server.config import Settings
from server.metrics import Metrics
from server.webrtc.send import Outgoing
from streaming.wire import ClientError

log = structlog.get_logger(__name__)
Kind = Literal["rtc", "whip", "whep"]
RETRY_MS = 2000
MOST_NAMES = 64  # letters of a name that a client chose


class Connection(Protocol):
    """What HTTP may do with a peer that is connected, or about to be."""

    async def add_candidates(self, lines: Sequence[str]) -> int: ...


@dataclass(frozen=True)
class Guest:
    """A resource: `hang_up` ends it and returns soon; `tag` names its ICE session, `ufrag` is the peer's in it."""

    id: str
    kind: Kind
    owner: str
    peer: Connection
    ufrag: str
    tag: str
    hang_up: Callable[[], Awaitable[None]]


@dataclass
class Peers:
    """Of one event loop."""

    settings: Settings
    metrics: Metrics
    guests: dict[str, Guest] = field(default_factory=dict)
    outgoing: dict[str, Outgoing] = field(default_factory=dict)  # by session
    names: dict[str, str] = field(default_factory=dict)  # chosen ones, of sessions
    waiting: int = 0  # have been answered, or are about to be, and are not connected
    inside: Counter[Kind] = field(default_factory=Counter)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def check(self, kind: Kind) -> None:
        """Raises ClientError: `capacity`, at the door."""
        most = self.settings.rtc_unconnected
        if self.waiting >= most:
            message = f"{self.waiting} peers have an answer and are not connected, at most {most} may be"
            raise ClientError("capacity", message, retry_after_ms=RETRY_MS)
        most = self.settings.rtc_listeners
        if kind == "whep" and self.inside["whep"] >= most:
            message = f"{most} listeners are connected, which is the most that this server takes"
            raise ClientError("capacity", message, retry_after_ms=RETRY_MS)

    @contextmanager
    def counted(self, kind: Kind) -> Iterator[None]:
        """A peer is inside while this is open.

        Raises:
            ClientError: `capacity`.
        """
        self.check(kind)
        self.inside[kind] += 1
        gauge = self.metrics.rtc_peers.labels(kind)
        try:
            with gauge.track_inprogress():
                yield
        finally:
            self.inside[kind] -= 1

    @contextmanager
    def unconnected(self) -> Iterator[None]:
        """A peer has not connected while this is open."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    @contextmanager
    def known(self, guest: Guest, outgoing: Outgoing | None = None, name: str = "") -> Iterator[None]:
        """The peer can be asked for by its id while this is open, its session by `name` too, and what goes out to it can be
        listened to.

        Raises:
            ClientError: `conflict`, for a name that is in use.
        """
        if name in self.names:
            raise ClientError("conflict", f"got the name {name!r}, under which somebody sends already")
        self.guests[guest.id] = guest
        self.names |= {name: guest.id} if name else {}
        self.outgoing |= {guest.id: outgoing} if outgoing is not None else {}
        try:
            yield
        finally:
            self.guests.pop(guest.id, None)
            self.outgoing.pop(guest.id, None)
            self.names.pop(name, None)

    def came(self, kind: Kind, setup_s: float | None, tracks: int) -> bool:
        """Counts who has connected, in so long, or has not; whether he has."""
        if setup_s is None:
            self.metrics.rtc_failures.labels(kind).inc()
            log.info("peer never connected", kind=kind)
            return False
        self.metrics.rtc_setup.labels(kind).observe(setup_s)
        log.info("peer connected", kind=kind, setup_ms=round(1000 * setup_s, 1), tracks=tracks)
        return True

    @contextmanager
    def tracks(self, number: int) -> Iterator[None]:
        """So many tracks go out while this is open."""
        self.metrics.rtc_tracks.inc(number)
        try:
            yield
        finally:
            self.metrics.rtc_tracks.dec(number)

    def find(self, id: str, kind: Kind, identity: Identity) -> Guest:
        """Raises ClientError: `unknown_session`, also for what is another's: who asks learns nothing of it."""
        guest = self.guests.get(self.names.get(id, id))
        if guest is None or guest.kind != kind or guest.owner != identity.name:
            raise ClientError("unknown_session", f"got {id[:MOST_NAMES]!r}, there is no such session (any more)")
        return guest

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that is not forgotten before it is done."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Everybody goes."""
        for task in (tasks := list(self.tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
