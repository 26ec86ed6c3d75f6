"""WHIP and WHEP by GStreamer's webrtcbin, which is all that `whipclientsink` adds HTTP to. For the system's own Python:

    python3 gst_whip.py whip URL '{"bearer": KEY, "hertz": 440, "seconds": 2}'      # or "wav": FILE; "red": true
    python3 gst_whip.py whep URL '{"tracks": 2, "seconds": 5, "folder": FOLDER}'    # writes FOLDER/MID.wav

Each line of its output is JSON: `status` with the answer to the POST, `state: connected`, the account. The sender plays in its
time and waits for a line of input before any of it goes out; it deletes its session at the end. The listener ends when nothing
has come for a second.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import gi

for part in ("Gst", "GstWebRTC", "GstSdp"):
    gi.require_version(part, "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402

CAPS = "application/x-rtp,media=audio,encoding-name=OPUS,payload=96,clock-rate=48000,encoding-params=(string)2"
RAW = "audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved"
GATHERING = GstWebRTC.WebRTCICEGatheringState
STATE = GstWebRTC.WebRTCPeerConnectionState
OVER = (STATE.DISCONNECTED, STATE.FAILED, STATE.CLOSED)
WAIT_S = 15.0


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def ask(method: str, url: str, body: str = "", bearer: str = "") -> tuple[int, str, str]:
    """Status, text and `Location`."""
    headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    request = urllib.request.Request(url, body.encode() or None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode(), answer.headers.get("Location", "")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), ""


class Peer:
    """A pipeline around one webrtcbin."""

    def __init__(self, description: str) -> None:
        made = Gst.parse_launch(description)
        self.pipeline = made if isinstance(made, Gst.Pipeline) else Gst.Pipeline()
        if made is not self.pipeline:
            self.pipeline.add(made)
        self.bin = self.pipeline.get_by_name("peer")
        self.gathered, self.connected, self.over = threading.Event(), threading.Event(), threading.Event()
        self.bin.connect("notify::ice-gathering-state", self._gathering)
        self.bin.connect("notify::connection-state", self._state)
        self.location = ""

    def _gathering(self, bin: Any, _: Any) -> None:
        if bin.get_property("ice-gathering-state") == GATHERING.COMPLETE:
            self.gathered.set()

    def _state(self, bin: Any, _: Any) -> None:
        state = bin.get_property("connection-state")
        if state == STATE.CONNECTED:
            self.connected.set()
        elif state in OVER:
            self.over.set()

    def call(self, url: str, bearer: str) -> bool:
        """Offers with all candidates, takes the answer, and is connected; or says what the server said."""
        self.pipeline.set_state(Gst.State.PLAYING)
        promise = Gst.Promise.new()
        self.bin.emit("create-offer", None, promise)
        promise.wait()
        reply = promise.get_reply()  # holds the offer's text, so it has to stay
        self.bin.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())
        if not self.gathered.wait(WAIT_S):
            raise TimeoutError("candidates are not gathered")
        offer = self.bin.get_property("local-description").sdp.as_text()
        status, text, location = ask("POST", url, offer, bearer)
        say(status=status, text=text, offer=offer)
        if status != 201:
            return False
        self.location = urljoin(url, location)
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        taken = Gst.Promise.new()
        self.bin.emit("set-remote-description", answer, taken)
        taken.wait()
        if not self.connected.wait(WAIT_S):
            raise TimeoutError("not connected")
        say(state="connected")
        return True

    def close(self) -> None:
        self.pipeline.set_state(Gst.State.NULL)


def send(url: str, options: dict[str, Any]) -> None:
    source = f"audiotestsrc is-live=true samplesperbuffer=960 freq={options.get('hertz', 440)} volume=0.2"
    if "wav" in options:
        source = f"filesrc location={options['wav']} ! wavparse ! audioconvert ! audioresample ! identity sync=true"
    peer = Peer(
        f"webrtcbin name=peer bundle-policy=max-bundle {source} ! {RAW} ! valve name=gate drop=true"
        f" ! opusenc frame-size=20 ! rtpopuspay name=pay pt=96 ! {CAPS} ! peer."
    )
    sent = [0]

    def count(_: Any, info: Any) -> Any:
        several = info.type & Gst.PadProbeType.BUFFER_LIST
        sent[0] += info.get_buffer_list().length() if several else 1
        return Gst.PadProbeReturn.OK

    if options.get("red"):
        line = peer.bin.emit("get-transceiver", 0)
        line.set_property("fec-type", GstWebRTC.WebRTCFECType.ULP_RED)
        line.set_property("do-nack", True)
    peer.pipeline.get_by_name("pay").get_static_pad("src").add_probe(
        Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, count
    )
    if peer.call(url, options.get("bearer", "")):
        sys.stdin.readline()
        gate = peer.pipeline.get_by_name("gate")
        gate.set_property("drop", False)
        time.sleep(options["seconds"])
        gate.set_property("drop", True)
        time.sleep(0.3)  # what is on its way
        status, _, _ = ask("DELETE", peer.location, bearer=options.get("bearer", ""))
        say(deleted=status, again=ask("DELETE", peer.location, bearer=options.get("bearer", ""))[0], packets=sent[0])
    peer.close()


class Ear(Peer):
    """Receives and decodes `tracks` of sound, each into what `heard` has under its mid."""

    def __init__(self, tracks: int) -> None:
        super().__init__("webrtcbin name=peer bundle-policy=max-bundle latency=100")
        self.heard: dict[str, bytearray] = {}
        self.last = time.monotonic()
        self.bin.connect("pad-added", self._added)
        for _ in range(tracks):
            caps = Gst.Caps.from_string(CAPS)
            self.bin.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, caps)

    def _added(self, _: Any, pad: Any) -> None:
        mid = pad.get_property("transceiver").get_property("mid")
        self.heard[mid] = bytearray()
        play = Gst.parse_bin_from_description(
            f"rtpopusdepay ! opusdec plc=true ! audioconvert ! audioresample ! {RAW}"
            " ! appsink name=end emit-signals=true sync=false",
            True,
        )
        play.get_by_name("end").connect("new-sample", self._sample, mid)
        self.pipeline.add(play)
        play.sync_state_with_parent()
        pad.link(play.get_static_pad("sink"))

    def _sample(self, sink: Any, mid: str) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        self.heard[mid] += buffer.extract_dup(0, buffer.get_size())
        self.last = time.monotonic()
        return Gst.FlowReturn.OK

    def write(self, folder: Path) -> None:
        for mid, pcm in self.heard.items():
            with wave.open(str(folder / f"{mid}.wav"), "wb") as file:
                file.setparams((2, 2, 48_000, 0, "NONE", ""))
                file.writeframes(bytes(pcm))


def listen(url: str, options: dict[str, Any]) -> None:
    ear = Ear(options["tracks"])
    if ear.call(url, options.get("bearer", "")):
        ends = time.monotonic() + options["seconds"]
        while time.monotonic() < ends and not (ear.heard and time.monotonic() - ear.last > 1):
            time.sleep(0.05)
        ear.write(Path(options["folder"]))
        say(samples={mid: len(pcm) // 4 for mid, pcm in ear.heard.items()}, over=ear.over.is_set())
    ear.close()


if __name__ == "__main__":
    Gst.init(None)
    {"whip": send, "whep": listen}[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3]))
