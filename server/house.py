"""What all sessions of a process share, and the way in: everything that must be true before a session begins."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from models.modes import Modes
from models.registry import Entry as Model
from server.admission import Admission
from server.auth import Identity
from server.config import Settings
from server.drain import Drain
from server.engine import Engine
from server.limits import Quotas
from server.metrics import Metrics
from server.promise import Promise, again, for_file, promise
from server.shelf import Loaded, Shelf
from server.tickets import Ticket, Tickets
from server.watch import Watch
from streaming import wire
from streaming.entry import BEGINNING, Entry, entry
from streaming.framing import Array
from streaming.identity import Spoken
from streaming.wire import ClientError


class Tap(Protocol):
    """Somebody who listens to a session's outputs."""

    def write(self, start: int, pcm: Array) -> None:
        """`[S, C, T]` of the session's outputs from its sample `start`. Returns at once, and raises nothing."""
        ...

    def end(self) -> None:
        """Nothing more will come."""
        ...


class Running(Protocol):
    """A session that is inside."""

    place: Place
    channels: int
    taps: set[Tap]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Their names, in order; each of `channels` channels."""
        ...

    async def hand_over(self) -> None:
        """It has to end, because it goes on elsewhere; returns when it has."""
        ...


@dataclass(frozen=True)
class House:
    """Of one event loop. `sessions` are those inside, by their id."""

    engine: Engine
    shelf: Shelf
    modes: Modes
    settings: Settings
    metrics: Metrics
    watch: Watch
    admission: Admission
    tickets: Tickets
    quotas: Quotas
    drain: Drain
    sessions: dict[str, Running] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """What a session was given at the door. `at` is where on its timeline it begins; `away` how long it had no connection, s;
    `spoken` who had spoken lately by then."""

    session: str
    identity: Identity
    start: wire.Start
    model: Loaded
    promise: Promise
    at: Entry = BEGINNING
    away: float = 0.0
    spoken: tuple[Spoken, ...] = ()

    @property
    def resumed(self) -> bool:
        return self.at is not BEGINNING

    def ticket(self, told: int, start: wire.Start, spoken: tuple[Spoken, ...] = ()) -> Ticket:
        framing = self.promise.plan.framing
        return Ticket(self.session, self.identity.name, told, start, framing, self.promise.seconds, spoken=spoken)


@asynccontextmanager
async def entered(first: wire.Start | wire.Resume, house: House, identity: Identity) -> AsyncIterator[Place]:
    """A place for a session that begins, or goes on; given back when this closes.

    Raises:
        ClientError: everything that may be said at the door.
    """
    ticket = house.tickets.read(first, identity.name) if isinstance(first, wire.Resume) else None
    start = ticket.start if ticket else first
    assert isinstance(start, wire.Start)
    entry = _checked(start, house, identity)
    if ticket and (old := house.sessions.get(ticket.session)):
        await old.hand_over()
    async with house.shelf.borrow(entry, start.stems) as model:
        place = _place(first, ticket, start, model, identity)
        with house.admission.seat(place.promise.demand), house.quotas.session(identity):
            with house.metrics.session(start.model):
                yield place


def _checked(start: wire.Start, house: House, identity: Identity) -> Model:
    """What is to run the session."""
    model = house.shelf.entry(start.model)  # refused before it is a label of metrics: wrong names have no end
    if identity.models is not None and start.model not in identity.models:
        raise ClientError("forbidden", f"got model {start.model!r}, this key may use {', '.join(identity.models)}")
    if start.gains and start.output != "mix":
        raise ClientError("bad_message", "got gains without output: mix; stems come as they are")
    try:
        return house.modes.entry(model, start.mode, start.speakers)
    except ValueError as error:
        raise ClientError("bad_message", str(error)) from None


def _place(
    first: wire.Start | wire.Resume, ticket: Ticket | None, start: wire.Start, model: Loaded, identity: Identity
) -> Place:
    latency = None if start.latency_ms is None else start.latency_ms / 1000
    if not start.live:
        given = for_file(model, start.rate, latency)
    elif ticket:
        given = again(model, start.rate, ticket.framing, ticket.seconds)
    else:
        given = promise(model, start.rate, latency)
    if not ticket:
        return Place(secrets.token_hex(8), identity, start, model, given)
    assert isinstance(first, wire.Resume)
    at = entry(given.plan, first.received, model.separator.spec.memory)
    away = max(time.time() - ticket.written, 0.0)
    return Place(ticket.session, identity, start, model, given, at, away, ticket.spoken)
