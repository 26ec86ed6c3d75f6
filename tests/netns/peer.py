"""A peer at the other end: sends sound in its time, listens to every output, and says a line about it every second.

`python peer.py HOST:PORT MODEL SECONDS`. Each line is JSON: `second`; `p50` and `worst` latency in ms, from when the last
sample of a packet was said until it is here; `media` and `stats`, the server's last words. The last line is the account.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCIceServer, RTCRtpReceiver
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtp import RtpPacket
from rtc import Client, Heard
from test_rtc_opus import clicks, lag

from server.webrtc.opus import MUSIC, Decoder
from server.webrtc.send import Outgoing
from server.webrtc.tap import tap
from streaming.framing import Array

RATE, FRAME = 48_000, 960


class Track:
    """What came of one output: which sample of the session each packet begins with, and when it came. The line is good in the
    first second, so the first packet holds sample 0."""

    def __init__(self) -> None:
        self.first: RtpPacket | None = None
        self.packets: dict[int, bytes] = {}
        self.came: list[tuple[float, int]] = []
        self.steady = True

    def hear(self, packet: RtpPacket) -> None:
        """Timestamps must go on with the sequence numbers, by the length of a packet: nothing dropped, nothing put in."""
        self.first = self.first or packet
        sample = (packet.timestamp - self.first.timestamp) % 2**32
        self.steady &= sample % 2**16 == (packet.sequence_number - self.first.sequence_number) * FRAME % 2**16
        self.packets[sample] = packet.payload
        self.came.append((time.monotonic(), sample + FRAME))

    def late(self, began: float) -> list[float]:
        """Milliseconds from the saying to the hearing, of all that came since the last call."""
        came, self.came = self.came, []
        return [1000 * (when - began - end / RATE) for when, end in came]

    def lag(self, sound: Array) -> int:
        """By how many samples the last second trails what was said: 0 if all is right."""
        places = sorted(self.packets)[-60:-10]
        decoder, heard = Decoder(2), np.zeros((2, 0), np.float32)
        for place in places:
            if missing := place - places[0] - heard.shape[1]:
                heard = np.concatenate((heard, decoder.conceal(missing)), axis=1)
            heard = np.concatenate((heard, decoder.decode(self.packets[place])), axis=1)
        said = np.take(sound, np.arange(places[0], places[0] + heard.shape[1]), axis=1, mode="wrap")
        return lag(said, heard)


class Player(Client):
    """The tests' client, with these tracks, and the servers that Rivulet tells it of."""

    def __init__(self, host: str, outgoing: Outgoing, outputs: int) -> None:
        self.players: list[Track] = []
        told = httpx.get(f"http://{host}/v1/rtc").json()["ice_servers"]
        ice = RTCConfiguration([RTCIceServer(**one) for one in told], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        super().__init__(host, outgoing.listen("voice"), outputs, ice=ice)

    def _tap(self, receiver: RTCRtpReceiver, heard: Heard) -> None:
        self.players.append(track := Track())
        tap(receiver, track.hear, lambda: None)

    @property
    def pair(self) -> list[tuple[str, str]]:
        """Kind and address of the two ends of the way, ours first."""
        pair = self.pc.getTransceivers()[0].receiver.transport.transport._connection._nominated[1]
        return [(one.type, one.host) for one in (pair.local_candidate, pair.remote_candidate)]

    def last(self, kind: str) -> dict[str, Any]:
        return next((one for one in reversed(self.texts) if one["type"] == kind), {})


async def main(host: str, model: str, seconds: int) -> None:
    sound, outgoing = clicks(2, 10.0), Outgoing(("voice",), 2, MUSIC)
    client = Player(host, outgoing, 2)
    response = await client.post({"model": model})
    assert response.status_code == 201, response.text
    await client.text("ready")
    pair = client.pair
    began = time.monotonic()
    for second in range(seconds):
        await say(outgoing, sound, began, second * RATE)
        tell(client, second + 1, began)
    await outgoing.finish()
    client.say("end")
    done = await client.text("done", 20)
    account(client, done["samples"], seconds * RATE, sound, pair)
    outgoing.close()
    await client.close()


async def say(outgoing: Outgoing, sound: Array, began: float, start: int) -> None:
    """A second of it, in its time."""
    for said in range(start, start + RATE, FRAME):
        await asyncio.sleep(max(0.0, began + (said + FRAME) / RATE - time.monotonic()))
        at = said % sound.shape[1]
        outgoing.write(said, sound[None, :, at : at + FRAME])


def tell(client: Player, second: int, began: float) -> None:
    times = [one for track in client.players for one in track.late(began)]
    told: dict[str, Any] = {"second": second, "media": client.last("media"), "stats": client.last("stats")}
    if times:
        told |= {"p50": float(np.median(times)), "worst": max(times)}
    print(json.dumps(told), flush=True)


def account(client: Player, done: int, said: int, sound: Array, pair: list[tuple[str, str]]) -> None:
    media, stats, tracks = client.last("media"), client.last("stats"), client.players
    assert tracks[0].first is not None
    told = {
        "said": said,
        "done": done,
        "heard": stats["heard"],
        "told": stats["told"],
        "ends": [max(track.packets) + FRAME for track in tracks],
        "steady": [track.steady for track in tracks],
        "lags": [track.lag(gain * sound) for track, gain in zip(tracks, (0.25, 0.75), strict=True)],
        "clock": (media["clock"]["rtp"] - tracks[0].first.timestamp - media["clock"]["sample"]) % 2**32,
        "came": [len(track.packets) for track in tracks],
        "media": media,
        "pair": pair,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
