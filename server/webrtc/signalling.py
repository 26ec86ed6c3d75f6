"""`/v1/rtc`: a session with all its tracks and a data channel, asked for by one offer."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from server.access import Caller, body
from server.auth import Identity
from server.config import loopback
from server.webrtc.call import Line, begin, call
from server.webrtc.ice import Server
from server.webrtc.offer import read
from server.webrtc.sections import bad

LARGEST = 1 << 18  # bytes of a body: an offer in JSON
FIELDS = ("sdp", "type", "start")
MOST_TRACKS = 32  # outputs that a session can have


def router(line: Line) -> APIRouter:
    """`POST`, `GET` and `DELETE`."""
    routes = APIRouter()

    @routes.get("/v1/rtc")
    async def settings(identity: Caller) -> dict[str, Any]:
        """What a client makes its RTCPeerConnection with."""
        return {"ice_servers": servers(line, identity), "most_tracks": MOST_TRACKS}

    @routes.post("/v1/rtc", status_code=201, openapi_extra=_schema())
    async def offer(request: Request, identity: Caller) -> Response:
        """An offer with one audio m-line an output and a data channel; the answer, and a session. docs/webrtc.md."""
        given = _body(await body(request, LARGEST))
        offered = read(given["sdp"])
        if not offered.data:
            raise bad("got an offer without a data channel, expected one labelled rivulet")
        start = begin(line, given["start"], stereo=bool(offered.audio[0].stereo))
        done = await call(line, identity, offered, start, "rtc", is_local(request))
        answer = {"sdp": done.sdp, "type": "answer", "session": done.guest.id, "tracks": done.tracks}
        answer["ice_servers"] = servers(line, identity)
        return JSONResponse(answer, 201, {"Location": f"/v1/rtc/{done.guest.id}", "Cache-Control": "no-store"})

    @routes.delete("/v1/rtc/{session}")
    async def hang_up(session: str, identity: Caller) -> dict[str, str]:
        """Ends the session; what was not told is lost. A client that wants the tail says `end` first."""
        await line.peers.find(session, "rtc", identity).hang_up()
        return {"session": session}

    return routes


def servers(line: Line, identity: Identity) -> list[dict[str, Any]]:
    """STUN and TURN, as a browser takes them."""
    return [one.json() for one in ice_servers(line, identity)]


def ice_servers(line: Line, identity: Identity) -> list[Server]:
    return line.ice.servers(identity.name)


def is_local(request: Request) -> bool:
    """Whether who asks is on this machine, where loopback is an address like others."""
    return request.client is not None and loopback(request.client.host)


def _body(raw: bytes) -> dict[str, Any]:
    """Raises ClientError: `bad_message`."""
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad(f"got a body that is not JSON: {raw[:40]!r}") from None
    if not isinstance(given, dict):
        raise bad(f"got {str(given)[:40]}, expected an object of {', '.join(FIELDS)}")
    if unknown := set(given) - set(FIELDS):
        raise bad(f"got unknown field {min(unknown)[:40]!r}, known are {', '.join(FIELDS)}")
    if given.get("type") != "offer":
        raise bad(f"got type {str(given.get('type'))[:40]!r}, expected 'offer'")
    if not isinstance(given.get("sdp"), str):
        raise bad("got no sdp, expected the text of an offer")
    if not isinstance(given.get("start"), dict):
        raise bad("got no start, expected an object: model, and what else stems.v1 has")
    return given


def _schema() -> dict[str, Any]:
    fields = {"sdp": {"type": "string"}, "type": {"const": "offer"}, "start": {"type": "object"}}
    content = {"application/json": {"schema": {"type": "object", "properties": fields, "required": list(FIELDS)}}}
    return {"requestBody": {"content": content}}
