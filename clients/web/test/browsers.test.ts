// What some browsers do not have, as those that were run say it.

import { afterEach, describe, expect, it, vi } from "vitest";
import { channelsOf } from "../src/client/capture";
import { connect } from "../src/client/connect";
import { microphone } from "../src/client/microphone";
import { Ring } from "../src/client/ring";

afterEach(() => vi.unstubAllGlobals());

it("a browser without WebRTC is told what to do, before the server is asked", async () => {
  const context = { resume: () => Promise.resolve() } as unknown as AudioContext;
  vi.stubGlobal("RTCPeerConnection", undefined);
  await expect(connect({ url: "http://nowhere", model: "music", transport: "webrtc", context })).rejects.toMatchObject({
    message: "This browser has no WebRTC.", advice: "Use a WebSocket, or another browser.", code: "no_webrtc",
  });
});

it.each([[true, true, true], [true, false, false], [false, true, false]])("isolated %s and shared memory %s: %s", (isolated, has, shareable) => {
  vi.stubGlobal("crossOriginIsolated", isolated);
  if (!has) vi.stubGlobal("SharedArrayBuffer", undefined);
  expect(Ring.shareable).toBe(shareable);
});

it.each([[{ channelCount: 1 }, 1], [{ channelCount: 2 }, 2], [{ channelCount: 6 }, 2], [{}, 2]])("a track that says %o has %i channels", (settings, channels) => {
  expect(channelsOf({ getSettings: () => settings } as MediaStreamTrack)).toBe(channels);
});

describe("a microphone that is refused as overconstrained", () => {
  const refuse = () => Promise.reject(new DOMException("", "OverconstrainedError"));

  it.each([["", "No microphone was found."], ["abc", "That input is not there any more."]])("%s", async (device, message) => {
    vi.stubGlobal("navigator", { mediaDevices: { getUserMedia: refuse } });
    await expect(microphone({ device })).rejects.toMatchObject({ message });
  });
});
