"""WHEP (draft-ietf-wish-whep): whoever may listens to a session, however it came to be, by one POST of an offer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, Request, Response

from server.access import Caller
from server.auth import Identity
from server.house import Running
from server.webrtc.answering import carried
from server.webrtc.broadcast import Broadcast
from server.webrtc.call import Line, coding
from server.webrtc.http import FRAGMENT, SDP, created, offered, others, trickled
from server.webrtc.listener import Listener
from server.webrtc.offer import Offer
from server.webrtc.opus import Coding
from server.webrtc.sections import bad
from server.webrtc.send import MIX, Outgoing
from server.webrtc.signalling import is_local
from streaming.wire import ClientError


def router(line: Line) -> APIRouter:
    routes = APIRouter()
    broadcasts: dict[str, Broadcast] = {}

    @routes.post("/whep/{session}", status_code=201)
    async def listen(session: str, request: Request, identity: Caller, stem: str | None = None) -> Response:
        """`?stem=NAME`: that output, or `mix`. Else an offer of one audio m-line gets the mix, one of several a track an output,
        each in a stream whose id is the output's name."""
        line.house.drain.check()
        running = _session(line, session, identity)
        offer = await offered(request)
        names = _wanted(running, offer, stem)
        line.peers.check("whep")
        how = _coding(line, running)
        source = _source(line, running, broadcasts)
        one = Listener(line, identity, offer, is_local(request), source, names, running.channels, how)
        line.peers.run(carried(one.live(), one.answered))
        answered = await asyncio.shield(one.answered)
        return created(line, identity, answered, f"/whep/{session}/{answered.guest.id}")

    @routes.patch("/whep/{session}/{listener}", status_code=204)
    async def trickle(session: str, listener: str, request: Request, identity: Caller) -> Response:
        return await trickled(request, line.peers.find(listener, "whep", identity))

    @routes.delete("/whep/{session}/{listener}")
    async def leave(session: str, listener: str, identity: Caller) -> Response:
        await line.peers.find(listener, "whep", identity).hang_up()
        return Response(status_code=200)

    others(routes, "/whep/{session}", "whep", "POST, OPTIONS", {"Accept-Post": SDP})
    others(routes, "/whep/{session}/{listener}", "whep", "PATCH, DELETE, OPTIONS", {"Accept-Patch": FRAGMENT})
    return routes


def _session(line: Line, name: str, identity: Identity) -> Running:
    """Raises ClientError: `unknown_session`, also for what this one may not hear; `conflict`, where there is no sound."""
    session = line.house.sessions.get(line.peers.names.get(name, name))
    if session is None or not identity.may_listen(session.place.identity.name):
        raise ClientError("unknown_session", f"got {name[:64]!r}, there is no such session (any more)")
    if not session.place.start.live:
        raise ClientError(
            "conflict", "this session is a file, faster or slower than the clock: only live ones can be heard"
        )
    if not session.outputs:
        raise ClientError("conflict", "this session tells who speaks, and has no sound to be heard")
    return session


def _wanted(session: Running, offer: Offer, stem: str | None) -> tuple[str, ...]:
    """The outputs that go out, m-line for m-line.

    Raises:
        ClientError: `bad_message`.
    """
    room = next((index for index, one in enumerate(offer.audio) if not one.takes), len(offer.audio))
    if not room:
        raise bad(
            f"got a first audio m-line that is {offer.audio[0].direction}, expected one that takes sound: recvonly"
        )
    names = session.outputs
    if stem is not None:
        if stem not in (*names, MIX):
            raise bad(f"got stem {stem[:64]!r}, this session has {', '.join((*names, MIX))}")
        return (stem,)
    if room == 1:
        return names if len(names) == 1 else (MIX,)
    if room < len(names):
        told = ", ".join(names)
        raise bad(f"got an offer with {room} audio m-lines, expected 1 for the mix, or {len(names)} for {told}")
    return names


@contextmanager
def _source(line: Line, session: Running, broadcasts: dict[str, Broadcast]) -> Iterator[Outgoing]:
    """What the session sends anyhow, if it does; else a broadcast, the same for all who listen."""
    name = session.place.session
    if (outgoing := line.peers.outgoing.get(name)) is not None:
        yield outgoing
        return
    for gone in [other for other, one in broadcasts.items() if one.over]:
        del broadcasts[gone]
    if name not in broadcasts:
        broadcasts[name] = Broadcast(session, _coding(line, session))
    with broadcasts[name].listener() as outgoing:
        yield outgoing


def _coding(line: Line, session: Running) -> Coding:
    return coding(line, session.place.start.model, session.place.start.mode, session.channels)
