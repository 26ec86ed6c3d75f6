// A WHIP sender and WHEP listener by libwebrtc, for tests: node peer.mjs whip|whep URL OPTIONS, one JSON line at the end.
import wrtc from "@roamhq/wrtc";

const { RTCPeerConnection, nonstandard } = wrtc;
const RATE = 48_000;
const [, , role, url, options = "{}"] = process.argv;
const { hertz = [440], seconds = 2, lines = 1, stereo = true } = JSON.parse(options);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The offer, whole: candidates and all. */
async function offered(pc) {
  await pc.setLocalDescription(await pc.createOffer());
  while (pc.iceGatheringState !== "complete") await sleep(5);
  const { sdp } = pc.localDescription;
  return stereo ? sdp.replace("useinbandfec=1", "useinbandfec=1;stereo=1;sprop-stereo=1") : sdp;
}

async function post(sdp, tries = 100) {
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: sdp });
  if (response.status === 404 && tries) { // whose session it is comes a little later
    await sleep(100);
    return post(sdp, tries - 1);
  }
  if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
  return { sdp: await response.text(), location: new URL(response.headers.get("location"), url) };
}

async function connected(pc, sdp) {
  await pc.setRemoteDescription({ type: "answer", sdp });
  while (!["connected", "completed"].includes(pc.iceConnectionState)) {
    if (pc.iceConnectionState === "failed") throw new Error("ICE failed");
    await sleep(5);
  }
}

async function send(pc) {
  const source = new nonstandard.RTCAudioSource();
  pc.addTransceiver(source.createTrack(), { direction: "sendonly" });
  const { sdp, location } = await post(await offered(pc));
  await connected(pc, sdp);
  const began = performance.now();
  for (let at = 0; at < seconds * RATE; at += RATE / 100) {
    const samples = new Int16Array(RATE / 100).map((_, n) =>
      Math.round(6000 * hertz.reduce((sum, one) => sum + Math.sin((2 * Math.PI * one * (at + n)) / RATE), 0)));
    source.onData({ samples, sampleRate: RATE, bitsPerSample: 16, channelCount: 1, numberOfFrames: RATE / 100 });
    await sleep(began + (1000 * at) / RATE - performance.now());
  }
  const ended = await fetch(location, { method: "DELETE" });
  return { status: ended.status };
}

/** How loud a sine is in mono samples, full scale at 1. */
function level(samples, rate, one) {
  let re = 0;
  let im = 0;
  samples.forEach((value, n) => {
    re += value * Math.cos((2 * Math.PI * one * n) / rate);
    im += value * Math.sin((2 * Math.PI * one * n) / rate);
  });
  return (2 * Math.hypot(re, im)) / samples.length / 32768;
}

async function listen(pc) {
  const heard = [];
  pc.ontrack = ({ track, streams }) => {
    const one = { stream: streams[0]?.id, samples: [], rate: 0 };
    heard.push(one);
    new nonstandard.RTCAudioSink(track).ondata = ({ samples, sampleRate, channelCount }) => {
      one.rate = sampleRate;
      for (let n = 0; n < samples.length; n += channelCount) one.samples.push(samples[n]);
    };
  };
  for (let n = 0; n < lines; n++) pc.addTransceiver("audio", { direction: "recvonly" });
  const { sdp, location } = await post(await offered(pc));
  await connected(pc, sdp);
  await sleep(1000 * (seconds + 0.5)); // the first half second: until the buffers have settled
  const tracks = heard.map(({ stream, samples, rate }) => {
    const last = samples.slice(-seconds * rate);
    return { stream, rate, samples: last.length, levels: hertz.map((one) => level(last, rate, one)) };
  });
  const ended = await fetch(location, { method: "DELETE" });
  return { status: ended.status, tracks };
}

const pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle" });
const result = await (role === "whip" ? send(pc) : listen(pc));
pc.close();
console.log(JSON.stringify(result));
process.exit(0);
