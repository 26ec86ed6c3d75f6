"""One peer connection, without a session: what its end leaves behind."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtcdtlstransport import State

from server.config import Settings
from server.webrtc.ice import Ice
from server.webrtc.offer import read
from server.webrtc.peer import Peer


async def test_a_word_that_is_said_again_as_the_connection_ends_fails_unheard() -> None:
    """What the other side did not acknowledge is due again in the very turn of the loop in which the connection ends."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    other = RTCPeerConnection()
    other.addTransceiver("audio", "sendrecv")
    other.createDataChannel("rivulet")
    await other.setLocalDescription(await other.createOffer())
    settings: dict[str, Any] = {}
    peer = Peer(Ice(Settings(**settings)), read(other.localDescription.sdp), True, lambda _: None)
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    peer.on_channel(opened.set_result)
    await peer.take([], hears=True)
    answer = await peer.answer("minptime=10", 20, [])
    await other.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    channel = await asyncio.wait_for(opened, 60)

    async def nothing() -> None: ...

    association: Any = peer.pc.sctp
    setattr(other.sctp, "_send_sack", nothing)  # noqa: B010
    channel.send("a word")
    await asyncio.sleep(0.05)
    assert association._sent_queue
    association._t3_cancel()
    association._t3_expired()
    association.transport._set_state(State.CLOSED)
    await asyncio.sleep(0.05)
    gc.collect()
    await peer.close()
    await other.close()
    assert complaints == []
