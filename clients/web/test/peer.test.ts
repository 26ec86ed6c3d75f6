import { describe, expect, it } from "vitest";
import { below, socketUrl } from "../src/client/address";
import { decode } from "../src/client/codec";
import { musical } from "../src/client/peer-sdp";
import { PeerStats, sampleOf } from "../src/client/peer-stats";

const OFFER = [
  "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9", "a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1", "a=rtpmap:63 red/48000/2",
  "a=fmtp:63 111/111", "m=audio 9 UDP/TLS/RTP/SAVPF 96", "a=rtpmap:96 OPUS/48000/2", "a=fmtp:96 stereo=0", "",
].join("\r\n");

describe("an offer", () => {
  it("asks for music on every line that has Opus, and leaves the rest alone", () => {
    const lines = musical(OFFER, { channels: 2, bitrate: 192_000 }).split("\r\n");
    expect(lines[2]).toBe("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1;maxaveragebitrate=192000");
    expect(lines[4]).toBe("a=fmtp:63 111/111");
    expect(lines[7]).toBe("a=fmtp:96 stereo=0;sprop-stereo=1;maxaveragebitrate=192000");
    expect(lines.length).toBe(OFFER.split("\r\n").length);
  });

  it("says when one channel goes up", () => expect(musical(OFFER, { channels: 1, bitrate: 1 })).toContain("sprop-stereo=0"));
});

describe("which sample an RTP timestamp is", () => {
  const clock = { sample: 96_000, mid: "0", rtp: 4_294_967_000 };
  it.each([[4_294_967_000, 96_000], [4_294_966_520, 95_520], [664, 96_960]])("%i is %i", (rtp, sample) => {
    expect(sampleOf(clock, rtp)).toBe(sample);
  });
});

describe("the browser's figures", () => {
  const down = (id: string, emitted: number, delay: number) => ({
    id, type: "inbound-rtp", kind: "audio", jitterBufferDelay: delay, jitterBufferTargetDelay: delay, jitterBufferMinimumDelay: delay / 2,
    jitterBufferEmittedCount: emitted, packetsLost: 1, packetsReceived: 50, concealedSamples: 10, totalSamplesReceived: emitted,
  });
  const rows = (packets: number, seconds: number, emitted: number, [a, b]: [number, number]) => [
    { id: "o", type: "outbound-rtp", kind: "audio", packetsSent: packets },
    { id: "m", type: "media-source", kind: "audio", totalSamplesDuration: seconds },
    { id: "p", type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 0.01 },
    down("x", emitted, a), down("y", emitted, b),
  ];

  it("are means over what came since they were asked for last", () => {
    const stats = new PeerStats();
    stats.take(rows(10, 5, 48_000, [48_000 * 0.04, 48_000 * 0.06]));
    expect(stats.network).toMatchObject({ roundTrip: 10, lost: 2, received: 100, concealed: 20, played: 48_000 });
    expect(stats.network?.jitterBuffer).toBeCloseTo(50);
    expect(stats.network?.spread).toBeCloseTo(20);
    stats.take(rows(60, 6, 96_000, [48_000 * 0.12, 48_000 * 0.16]));
    expect(stats.network?.jitterBuffer).toBeCloseTo(90);
    expect(stats.network?.needed).toBeCloseTo(50);
  });

  it.each([10, 20, 60])("know how much goes up in packets of %i ms", (frame) => {
    const stats = new PeerStats();
    stats.take(rows(7, 3, 0, [0, 0])); // the source began long before
    stats.take(rows(107, 3 + (100 * frame) / 1000 + 0.013, 0, [0, 0]));
    expect(stats.sent).toBe(107 * frame * 48);
    expect(stats.network?.jitterBuffer).toBeNull();
  });
});

describe("addresses", () => {
  it.each([
    ["https://a.example", "https://a.example/v1/rtc", "wss://a.example/v1/stream"],
    ["http://a.example:8000/stems?x=1#live", "http://a.example:8000/stems/v1/rtc", "ws://a.example:8000/stems/v1/stream"],
  ])("below %s", (base, rtc, socket) => {
    expect(below(base, "v1/rtc").href).toBe(rtc);
    expect(socketUrl(base)).toBe(socket);
  });
});

it("`media` is understood, and one without its figures is refused", () => {
  const media = { type: "media", jitter_ms: 1, buffer_ms: 2, lost: 0, concealed: 0, recovered: 0, discarded: 0, encode_ms: 1, behind_ms: 3, clock: null };
  expect(decode(JSON.stringify(media))).toEqual(media);
  expect(() => decode(JSON.stringify({ ...media, behind_ms: "3" }))).toThrow("got string for behind_ms of media");
});
