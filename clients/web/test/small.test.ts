import { describe, expect, it } from "vitest";
import { FLOOR, freshFader, gains, gainOf } from "../src/app/faders";
import { FileSource } from "../src/client/file";
import { Lag } from "../src/client/lag";
import { Latency } from "../src/client/latency";
import { type Model, pick } from "../src/client/models";
import { clock, decibels, ms, share, title } from "../src/app/ui/text";

describe("faders", () => {
  const [plain, muted, solo] = [freshFader(), { ...freshFader(), mute: true }, { ...freshFader(), solo: true }];
  it.each([
    ["all open", [plain, plain], [1, 1]],
    ["a mute", [muted, plain], [0, 1]],
    ["a solo", [plain, solo], [0, 1]],
    ["a muted solo: silence", [plain, { ...solo, mute: true }], [0, 0]],
  ])("%s", (_name, faders, expected) => expect(gains(faders, true)).toEqual(expected));

  it("are all shut while nobody listens", () => expect(gains([plain, solo], false)).toEqual([0, 0]));
  it("go down to nothing", () => {
    expect(gainOf(FLOOR)).toBe(0);
    expect(gainOf(-20)).toBeCloseTo(0.1);
    expect(gainOf(0)).toBe(1);
  });
});

describe("latency", () => {
  it("dates a captured sample inside its block", () => {
    const latency = new Latency(1 / 1000);
    latency.sent(0, 10);
    latency.sent(500, 20); // a pause of 9.5 s between
    latency.arrived(400, 10.5);
    latency.arrived(600, 20.3);
    expect(latency.worst).toBeCloseTo(0.2);
    expect(latency.timeOf(499)).toBeCloseTo(10.499);
    latency.forget(550);
    expect(latency.timeOf(499)).toBeNull();
    expect(latency.timeOf(550)).toBeCloseTo(20.05);
  });

  it("gives the median and the worst of the last chunks", () => {
    const latency = new Latency(0);
    latency.sent(0, 0);
    expect([latency.median, latency.worst]).toEqual([null, null]);
    for (const lag of [9, 1, 2]) latency.arrived(0, lag);
    expect([latency.median, latency.worst]).toEqual([2, 9]);
    for (let i = 0; i < 64; i += 1) latency.arrived(0, 1);
    expect(latency.worst).toBe(1);
  });
});

it("a file comes in blocks, from any place, to its last sample", () => {
  const planes = [Float32Array.from({ length: 10_000 }, (_, i) => i)];
  const source = new FileSource({ name: "x", rate: 48000, planes }, 1000);
  expect(source.length).toBe(9000);
  const got: number[] = [];
  for (let block = source.take(); block; block = source.take()) got.push(...block.planes[0]);
  expect(got).toEqual([...planes[0].subarray(1000)]);
});

describe("models", () => {
  const model = (name: string, more: Partial<Model> = {}): Model => ({
    name, sources: [], rate: 44100, channels: 2, latency_ms: null, licence: "", present: true, interchangeable: false,
    default_for: [], ...more,
  });
  const music = model("music", { default_for: ["file"] });
  const speech = model("speech", { default_for: ["microphone"], interchangeable: true });
  it("takes what is declared", () => expect([pick([speech, music], "file"), pick([music, speech], "microphone")]).toEqual([music, speech]));
  it("prefers what is there", () => {
    const other = model("other");
    expect(pick([{ ...music, present: false }, other], "file")).toBe(other);
    expect(pick([{ ...music, present: false }], "file")?.name).toBe("music");
  });
  it("takes what fits", () => expect(pick([model("a"), model("b", { interchangeable: true })], "microphone")?.name).toBe("b"));
  it("has nothing to take of nothing", () => expect(pick([], "file")).toBeUndefined());
});

it("words", () => {
  expect([clock(0), clock(61.9), clock(600), clock(-1)]).toEqual(["0:00", "1:01", "10:00", "0:00"]);
  expect([ms(null), ms(12.4), ms(23_400)]).toEqual(["–", "12 ms", "23.4 s"]);
  expect([decibels(0), decibels(6), decibels(-12.5), decibels(FLOOR)]).toEqual(["0.0 dB", "+6.0 dB", "−12.5 dB", "off"]);
  expect([title("speaker_1"), title("no_vocals")]).toEqual(["Speaker 1", "No vocals"]);
  expect([share(0), share(1), share(2)]).toEqual([0, 1, 1]);
  expect(share(0.001)).toBeCloseTo(0);
});

describe("how late live audio may be", () => {
  it("four seconds, on a network that is only slow", () => {
    const lag = new Lag(1000);
    expect([3000, 4000, 4001].map((waiting) => lag.broken(waiting, false))).toEqual([false, false, true]);
  });

  it("as late as lost connections made it, and no more", () => {
    const lag = new Lag(1000);
    expect([5000, 20_000].map((waiting) => lag.broken(waiting, true))).toEqual([false, false]);
    expect([23_000, 15_000, 19_000, 19_001].map((waiting) => lag.broken(waiting, false))).toEqual([false, false, false, true]);
    expect([6000, 3000, 7001].map((waiting) => lag.broken(waiting, false))).toEqual([false, false, true]);
    expect([60_000, 60_001].map((waiting) => lag.broken(waiting, true))).toEqual([false, true]);
  });
});
