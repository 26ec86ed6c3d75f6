"""One peer connection, from its offer to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCCertificate,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSctpTransport,
    RTCSessionDescription,
)
from aiortc.rtcrtpparameters import RTCRtpCodecCapability
from OpenSSL import SSL

from server.webrtc import answer as answers
from server.webrtc.ice import MOST_CANDIDATES, Ice, usable
from server.webrtc.offer import Offer
from server.webrtc.sections import bad

log = logging.getLogger(__name__)
OPUS = RTCRtpCodecCapability(mimeType="audio/opus", clockRate=48_000, channels=2, parameters={})
CERTIFICATES = "_RTCPeerConnection__certificates"
TRANSMIT = "_transmit"  # of RTCSctpTransport
CLOSE_S = 5.0  # that the end of a connection may take
# aiortc's list, and the same for peers whose certificate is RSA: as DTLS client it would not speak to them.
CIPHERS = b":".join(
    b"ECDHE-%s-%s" % (kind, rest)
    for kind in (b"ECDSA", b"RSA")
    for rest in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
)


class Certificate(RTCCertificate):
    """An ECDSA certificate, that talks to RSA ones too."""

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context


class Peer:
    """`changed` is called with `connected`, and with `failed` or `closed` at the end, once each. Of one event loop."""

    def __init__(self, ice: Ice, offer: Offer, local: bool, changed: Callable[[str], None]) -> None:
        self._ice, self._offer, self._local, self._changed = ice, offer, local, changed
        self._began = time.monotonic()
        self._closing: asyncio.Task[None] | None = None
        self._ended = False
        self.setup_s: float | None = None  # from the offer until the connection is up
        self.pc = pc = RTCPeerConnection(ice.configuration())
        if not hasattr(pc, CERTIFICATES):
            raise RuntimeError("this aiortc's RTCPeerConnection keeps no certificates; WebRTC works with aiortc 1.16")
        setattr(pc, CERTIFICATES, [Certificate.generateCertificate()])
        pc.add_listener("connectionstatechange", self._state)

    @property
    def connected(self) -> bool:
        return self.setup_s is not None and not self._ended

    async def take(self, tracks: Sequence[MediaStreamTrack], hears: bool) -> RTCRtpReceiver | None:
        """Set the offer. Track for track goes out on its audio m-lines; `hears`: the first one brings sound in, by the receiver
        that is returned. To be followed by `answer`, which connects.

        Raises:
            ClientError: `bad_message`, where aiortc finds something wrong that we have not.
        """
        transceivers = [self._transceiver(index, tracks, hears) for index in range(len(self._offer.audio))]
        try:
            await self.pc.setRemoteDescription(RTCSessionDescription(self._offer.sdp, "offer"))
        except Exception as error:  # all that a parser of another's words may raise
            log.warning("an offer was checked, and refused all the same", exc_info=True)
            raise bad(f"got an offer that cannot be taken: {error}") from None
        if self.pc.sctp is not None:
            _tame(self.pc.sctp)
        first = transceivers[0].receiver.transport
        if self._offer.setup == "actpass":
            first._set_role("server")  # then the peer's certificate may be of any kind
        for candidate in usable(self._offer.candidates, self._local):
            await first.transport.addRemoteCandidate(candidate)
        self._ice.bind(first.transport.iceGatherer._connection)
        return transceivers[0].receiver if hears else None

    async def answer(self, opus: str, ptime_ms: int, names: Sequence[str]) -> str:
        """Gather, and begin to connect. The answer for the peer, in which the tracks have `names`."""
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        gatherer = self.pc.getTransceivers()[0].receiver.transport.transport.iceGatherer
        ours = list(self._ice.public(gatherer.getLocalCandidates()))
        return answers.answer(self._offer, self.pc.localDescription.sdp, opus, ptime_ms, ours, names)

    def _transceiver(self, index: int, tracks: Sequence[MediaStreamTrack], hears: bool) -> RTCRtpTransceiver:
        section = self._offer.audio[index]
        down, up = section.takes and index < len(tracks), section.sends and hears and index == 0
        direction = {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}.get((down, up))
        transceiver = self.pc.addTransceiver(tracks[index] if down else "audio", direction or "inactive")
        transceiver.setCodecPreferences([OPUS])
        return transceiver

    async def add_candidates(self, lines: Sequence[str]) -> int:
        """Candidates that came later; how many of them may be of use."""
        transport = self.pc.getTransceivers()[0].receiver.transport.transport
        known = len(transport.getRemoteCandidates())
        found = usable(lines, self._local)[: max(0, MOST_CANDIDATES - known)]
        for candidate in found:
            await transport.addRemoteCandidate(candidate)
        return len(found)

    @property
    def senders(self) -> list[RTCRtpSender]:
        """Of the audio m-lines, in order."""
        return [one.sender for one in self.pc.getTransceivers()]

    def on_channel(self, take: Callable[[RTCDataChannel], None]) -> None:
        self.pc.add_listener("datachannel", take)

    def _state(self) -> None:
        state = self.pc.connectionState
        if state == "connected" and self.setup_s is None:
            self.setup_s = time.monotonic() - self._began
            self._changed("connected")
        elif state in ("failed", "closed") and not self._ended:
            self._ended = True
            self._changed(state)

    async def close(self) -> None:
        """Hang up; returns when all is given back. May be called again, and by many."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.pc.close()
        except TimeoutError:
            log.error("a peer connection did not close within %g s", CLOSE_S)
        finally:
            self.pc.remove_all_listeners()
            if not self._ended:
                self._ended = True
                self._changed("closed")


def _tame(association: RTCSctpTransport) -> None:
    """aiortc sends what was not acknowledged in time again in a task that nobody awaits. Where the connection ends in the same
    turn of the loop, as happens when the loop was held up, that fails, and asyncio says so in the log. `close` ends the
    association as it should; there is nothing more that could be waited for."""
    transmit = association._transmit

    async def quietly() -> None:
        with suppress(ConnectionError):
            await transmit()

    setattr(association, TRANSMIT, quietly)
