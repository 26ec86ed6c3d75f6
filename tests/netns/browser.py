"""A real Chromium at the other end: `python browser.py HOST:PORT MODEL SECONDS [URL]`. Says a line a second, and an account at
the end. It uses the ICE servers that Rivulet tells it of, or with `URL` (stun:...) that one.

Its sound is made in the page, so it asks for no microphone and hides its addresses behind mDNS names, as browsers do to pages
that they do not trust; or with `VOICE`, in the environment, it is that WAV file as a microphone. `late` is the time of the clock
at which a sample of the session is played out, less its place in the session, in ms: a constant plus the latency.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time

from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
]

FAKE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
SECURE = "--unsafely-treat-insecure-origin-as-secure"

MICROPHONE = """async () => {
  const audio = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  window.microphone = await navigator.mediaDevices.getUserMedia({audio});
}"""

CALL = """async ([model, server]) => {
  const context = new AudioContext({sampleRate: 48000});
  // Something of a voice, which browsers code as speech: a buzz that glides, through formants, in syllables.
  const gain = new GainNode(context, {gain: 0.3});
  const buzz = new OscillatorNode(context, {type: "sawtooth", frequency: 120});
  const glide = new OscillatorNode(context, {frequency: 0.7});
  glide.connect(new GainNode(context, {gain: 25})).connect(buzz.frequency);
  for (const [frequency, Q] of [[700, 7], [1220, 10], [2600, 15]])
    buzz.connect(new BiquadFilterNode(context, {type: "bandpass", frequency, Q})).connect(gain);
  const beat = new OscillatorNode(context, {frequency: 3});
  beat.connect(new GainNode(context, {gain: 0.3})).connect(gain.gain);
  for (const one of [buzz, glide, beat]) one.start();
  const said = new MediaStreamAudioDestinationNode(context); gain.connect(said);
  const told = await (await fetch("/v1/rtc")).json(), iceServers = server ? [{urls: [server]}] : told.ice_servers;
  const peer = window.peer = new RTCPeerConnection({iceServers});
  window.texts = []; window.refused = [];
  peer.onicecandidateerror = ({errorCode, errorText, url}) => refused.push({errorCode, errorText, url});
  const channel = window.channel = peer.createDataChannel("rivulet");
  channel.onmessage = (event) => texts.push(JSON.parse(event.data));
  const sound = window.microphone ?? said.stream;
  peer.addTransceiver(sound.getAudioTracks()[0], {direction: "sendrecv"});
  peer.addTransceiver("audio", {direction: "recvonly"});
  window.ears = [];
  peer.ontrack = ({track}) => {
    const ear = new Audio();
    ear.srcObject = new MediaStream([track]);
    ear.play();
    ears.push(ear);
  };
  await peer.setLocalDescription();
  const begun = performance.now();
  while (peer.iceGatheringState !== "complete" && performance.now() - begun < (iceServers.length ? 3000 : 300))
    await new Promise((done) => setTimeout(done, 20));
  const answer = await fetch("/v1/rtc", {method: "POST", headers: {"Content-Type": "application/json"},
    body: JSON.stringify({sdp: peer.localDescription.sdp, type: "offer", start: {model}})});
  const body = await answer.json();
  if (answer.status !== 201) throw new Error(JSON.stringify(body));
  await peer.setRemoteDescription({type: "answer", sdp: body.sdp});
}"""

LOOK = """async () => {
  const last = (type) => texts.findLast((one) => one.type === type) ?? {};
  const tracks = [];
  for (const {receiver} of peer.getTransceivers())
    for (const [, one] of await receiver.getStats()) if (one.type === "inbound-rtp")
      tracks.push({delay: one.jitterBufferDelay, told: one.jitterBufferEmittedCount, samples: one.totalSamplesReceived,
        concealed: one.concealedSamples, lost: one.packetsLost, came: one.packetsReceived, energy: one.totalAudioEnergy});
  const media = last("media"), heard = peer.getTransceivers()[0].receiver.getSynchronizationSources()[0];
  let late = null;
  if (media.clock && heard) {
    const sample = media.clock.sample + ((heard.rtpTimestamp - media.clock.rtp) | 0);
    late = heard.timestamp - sample / 48;
  }
  const all = await peer.getStats(), pair = [...all.values()].find((one) => one.nominated && one.state === "succeeded");
  const kinds = pair && [pair.localCandidateId, pair.remoteCandidateId].map((id) => all.get(id));
  return {media, stats: last("stats"), done: last("done"), tracks, late, refused,
    sends: [...all.values()].find((one) => one.type === "outbound-rtp"),
    pair: kinds?.map((one) => one.candidateType), over: kinds?.[0].relayProtocol};
}"""


def watch(page: Page, model: str, seconds: int, server: str | None) -> None:
    """Of no seconds: only what is there when the answer is."""
    page.evaluate(CALL, [model, server])
    if not seconds:
        print(json.dumps(page.evaluate(LOOK)), flush=True)
        return
    page.wait_for_function("texts.some((one) => one.type === 'ready')", timeout=20_000)
    began = time.monotonic()
    for second in range(1, seconds + 1):
        time.sleep(max(0.0, began + second - time.monotonic()))
        print(json.dumps({"second": second, **page.evaluate(LOOK)}), flush=True)
    page.evaluate("channel.send(JSON.stringify({type: 'end'}))")
    page.wait_for_function("texts.some((one) => one.type === 'done')", timeout=20_000)
    print(json.dumps(page.evaluate(LOOK)), flush=True)


def main(host: str, model: str, seconds: int, server: str | None = None) -> None:
    with sync_playwright() as driver:
        voice = os.environ.get("VOICE")
        more = [f"--use-file-for-fake-audio-capture={voice}", f"{SECURE}=http://{host}", *FAKE] if voice else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *more])
        page = browser.new_page()
        page.goto(f"http://{host}/livez")
        if voice:
            page.evaluate(MICROPHONE)
        watch(page, model, seconds, server)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:5])
