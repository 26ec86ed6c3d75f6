import { describe, expect, it, vi } from "vitest";
import { deviceDelay } from "../src/client/device";
import { Marks } from "../src/client/peer-marks";
import type { Measure } from "../src/client/peer-measure";
import { Reckoning } from "../src/client/peer-reckoning";
import { PeerStats } from "../src/client/peer-stats";

describe("marks", () => {
  it("wait until they come, and are known until then", async () => {
    const marks = new Marks();
    const say = vi.fn();
    const [first, second] = [marks.ask(say), marks.ask(say)];
    expect([say.mock.calls, [...marks.ids]]).toEqual([[["m0"], ["m1"]], ["m0", "m1"]]);
    marks.came("m1", 960);
    marks.came("another's", 1);
    await expect(second).resolves.toBe(960);
    expect([...marks.ids]).toEqual(["m0"]);
    marks.came("m0", 480);
    await expect(first).resolves.toBe(480);
  });
});

describe("samples over calls", () => {
  let measure: Measure | null = null;
  const call = (heard: number | null, sent: number, ear: number | null = null): Measure =>
    ({ heard, ear, figures: { sent, network: { jitterBuffer: 45 } } }) as Measure;
  const reckoning = new Reckoning(() => measure);

  it("are those of the session, at first", () => {
    expect([reckoning.position, reckoning.sent, reckoning.told]).toEqual([0, 0, 0]);
    measure = call(-200, 900);
    expect(reckoning.position).toBe(0);
    measure = call(4800.4, 9600, 130);
    reckoning.advance(7200);
    reckoning.advance(6000);
    expect([reckoning.position, reckoning.sent, reckoning.told, reckoning.at(1)]).toEqual([4800, 9600, 7200, 1]);
    const latency = reckoning.latency(80, 0.02);
    expect([latency.declared, latency.ear]).toEqual([80, 130]);
    expect(latency.arrival).toBeCloseTo(130 - 45 - 20);
  });

  it("go on from what had gone up when a call is lost", () => {
    expect(reckoning.broken()).toBe(9600);
    measure = null;
    expect([reckoning.position, reckoning.sent, reckoning.told], "stands still").toEqual([4800, 9600, 7200]);
    measure = call(480, 960);
    reckoning.advance(700);
    expect([reckoning.position, reckoning.sent, reckoning.told]).toEqual([10_080, 10_560, 10_300]);
  });
});

it("a browser that does not say what the microphone gave is timed", () => {
  const stats = new PeerStats();
  const rows = (packets: number, ms: number) => [
    { id: "o", type: "outbound-rtp", kind: "audio", packetsSent: packets, timestamp: 1.8e12 + ms },
    { id: "m", type: "media-source", kind: "audio" },
  ];
  stats.take(rows(5, 0));
  stats.take(rows(105, 2013));
  expect(stats.sent).toBe(105 * 960);
});

describe("the output device's delay", () => {
  const context = { outputLatency: 0.04 } as AudioContext;
  it.each([
    ["Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0", 0],
    ["Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:153.0) Gecko/20100101 Firefox/153.0", 0.04],
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36", 0.04],
  ])("in %s is %f s", (agent, seconds) => expect(deviceDelay(context, agent)).toBe(seconds));

  it("is not read at all in Firefox on Linux: that alone may stop the page", () => {
    const silent = { get outputLatency(): number { throw new Error("asked"); } } as AudioContext;
    expect(deviceDelay(silent, "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0")).toBe(0);
  });

  it("is none where the browser does not know it", () => expect(deviceDelay({} as AudioContext, "Safari")).toBe(0));
});
