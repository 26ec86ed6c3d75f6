"""WHIP (RFC 9725): a sender makes a session by one POST of its offer, as OBS, FFmpeg and GStreamer do; others listen by WHEP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from server.access import Caller
from server.webrtc.call import Line, begin, call
from server.webrtc.http import FRAGMENT, SDP, created, offered, others, trickled
from server.webrtc.sections import bad
from server.webrtc.signalling import is_local

NAME = re.compile(r"[A-Za-z0-9_-]{16,64}")
DEFAULT = "music"


def router(line: Line) -> APIRouter:
    routes = APIRouter()

    @routes.post("/whip", status_code=201)
    async def publish(request: Request, identity: Caller) -> Response:
        """`?model=music&mode=separate&stems=a,b&output=mix&mono=1&latency_ms=200&name=...`, all of them optional. `name`: 16 to
        64 letters that the sender chose, by which the session can be listened to as by its id."""
        offer = await offered(request)
        asked, name = _start(request.query_params)
        start = begin(line, asked, stereo=offer.audio[0].stereo is not False)
        answered = await call(line, identity, offer, start, "whip", is_local(request), name)
        return created(line, identity, answered, f"/whip/{answered.guest.id}")

    @routes.patch("/whip/{session}", status_code=204)
    async def trickle(session: str, request: Request, identity: Caller) -> Response:
        return await trickled(request, line.peers.find(session, "whip", identity))

    @routes.delete("/whip/{session}")
    async def end(session: str, identity: Caller) -> Response:
        """The sender is done; whoever listens hears the rest."""
        await line.peers.find(session, "whip", identity).hang_up()
        return Response(status_code=200)

    others(routes, "/whip", "whip", "POST, OPTIONS", {"Accept-Post": SDP})
    others(routes, "/whip/{session}", "whip", "PATCH, DELETE, OPTIONS", {"Accept-Patch": FRAGMENT})
    return routes


def _start(query: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """`start` as the query says it, and the name; what the values may be is checked where `start` is.

    Raises:
        ClientError: `bad_message`.
    """
    known = ("model", "mode", "stems", "output", "mono", "latency_ms", "name")
    if unknown := set(query) - set(known):
        raise bad(f"got {min(unknown)[:40]!r} in the query, known are {', '.join(known)}")
    asked: dict[str, Any] = {"model": DEFAULT} | {
        key: query[key] for key in ("model", "mode", "output") if key in query
    }
    if "stems" in query:
        asked["stems"] = query["stems"].split(",")
    if "mono" in query:
        asked["mono"] = {"1": True, "true": True, "0": False, "false": False}.get(query["mono"], query["mono"])
    if "latency_ms" in query:
        asked["latency_ms"] = _number(query["latency_ms"])
    if (name := query.get("name", "")) and not NAME.fullmatch(name):
        raise bad(f"got the name {name[:70]!r}, expected 16 to 64 of A-Z a-z 0-9 _ -, which nobody can guess")
    return asked, name


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
