"""The one place that knows aiortc's private parts: RTP packets as they come, before its jitter buffer and its decoder.

aiortc 1.16 holds 80 ms back, 280 ms for good after one lost packet, and decodes without recovery; it has no public way round.
Its receiver hands each packet, unprotected, counted for RTCP and of a known payload type, to `__jitter_buffer.add`, and
decodes what that returns. So a buffer takes the place of its own that passes packets on and returns nothing. The decoder's
thread, which would wait for ever, is stopped as soon as it is started. What stops it later is the end of the stream: the
receiver's `stop`, RTCP's BYE, and the transport's close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.rtp import RtpPacket

_BUFFER, _STOP, _THREAD = (f"_RTCRtpReceiver__{name}" for name in ("jitter_buffer", "stop_decoder", "decoder_thread"))


class _Buffer:
    """In place of aiortc's JitterBuffer: no packet completes a frame."""

    def __init__(self, heard: Callable[[RtpPacket], None]) -> None:
        self._heard = heard

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        self._heard(packet)
        return False, None


def tap(receiver: RTCRtpReceiver, heard: Callable[[RtpPacket], None], ended: Callable[[], None]) -> None:
    """From now on `heard` gets every packet, and `ended` is called at the end; `receiver.track` gives nothing.

    Raises:
        RuntimeError: this aiortc is built in another way, saying which version is known to work.
    """
    private: Any = receiver
    if missing := [name for name in (_BUFFER, _STOP, _THREAD) if not hasattr(private, name)]:
        raise RuntimeError(
            f"this aiortc's RTCRtpReceiver has no {', '.join(missing)}: its packets cannot be tapped. "
            "Install aiortc 1.16, or see server/webrtc/tap.py"
        )
    stop, receive = getattr(private, _STOP), private.receive

    def stopped() -> None:
        stop()
        ended()

    async def started(parameters: Any) -> None:
        await receive(parameters)
        stop()

    setattr(private, _BUFFER, _Buffer(heard))
    setattr(private, _STOP, stopped)
    private.receive = started
    if getattr(private, _THREAD):
        stop()
