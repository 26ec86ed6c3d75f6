"""What WHIP and WHEP share of HTTP: SDP bodies, `Link` headers, candidates that come later, and verbs that are none."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.access import Caller, body
from server.auth import Identity
from server.webrtc.answering import Answered
from server.webrtc.call import Line
from server.webrtc.offer import LARGEST, Offer, read
from server.webrtc.peers import Guest, Kind
from server.webrtc.sections import bad
from streaming.wire import ClientError

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"


async def offered(request: Request) -> Offer:
    """The offer in a body.

    Raises:
        ClientError: `unsupported` for another type of body, `bad_message`, `too_large`.
    """
    return read(await _text(request, SDP))


def created(line: Line, identity: Identity, answered: Answered, location: str) -> Response:
    """RFC 9725, section 4.2: the answer, where it is ended, and the servers that a client may need."""
    headers = {"Location": location, "ETag": answered.guest.tag, "Accept-Patch": FRAGMENT, "Cache-Control": "no-store"}
    response = Response(answered.sdp, 201, headers, SDP)
    for server in line.ice.servers(identity.name):
        for link in server.links():
            response.headers.append("Link", link)
    return response


async def trickled(request: Request, guest: Guest) -> Response:
    """Candidates that the peer found after its offer (RFC 8840). An ICE restart is not done: 422 (RFC 9725, section 4.3).

    Raises:
        ClientError: `unsupported`, `precondition` for another ETag than this session's, `restart`.
    """
    fragment = await _text(request, FRAGMENT)
    wanted = request.headers.get("if-match", "*")
    ufrags = {
        line.removeprefix("a=ice-ufrag:").strip() for line in fragment.splitlines() if line.startswith("a=ice-ufrag:")
    }
    if ufrags - {guest.ufrag}:
        raise ClientError(
            "restart", "got other ICE credentials than the offer's; ICE restarts are not done here: offer again"
        )
    if wanted not in ("*", guest.tag):
        raise ClientError("precondition", f"got If-Match {wanted[:40]}, this ICE session is {guest.tag}")
    lines = [line.removeprefix("a=") for line in fragment.splitlines() if line.startswith("a=candidate:")]
    await guest.peer.add_candidates(lines)
    return Response(status_code=204)


def others(routes: APIRouter, path: str, kind: Kind, allowed: str, accepts: dict[str, str]) -> None:
    """OPTIONS for whoever asks what is taken here; GET, HEAD and PUT, which mean nothing here, are refused as such."""
    headers = {"Allow": allowed} | accepts

    @routes.options(path, include_in_schema=False, name=f"{kind} options {path}")
    async def options() -> Response:
        return Response(status_code=204, headers=headers)

    @routes.api_route(path, methods=["GET", "HEAD", "PUT"], include_in_schema=False, name=f"{kind} others {path}")
    async def no_such(_: Caller) -> Response:
        return Response(status_code=405, headers=headers)


async def _text(request: Request, kind: str) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise ClientError("unsupported", f"got a body of type {given[:60]!r}, expected {kind}")
    raw = await body(request, LARGEST)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise bad("got a body that is not UTF-8") from None
