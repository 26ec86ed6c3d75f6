import { describe, expect, it } from "vitest";
import { account, offered, reach } from "../src/app/rooms/live/dial";
import { side } from "../src/app/rooms/live/knobs";
import { freshName, whepAddresses, whipAddress } from "../src/app/rooms/live/obs";
import type { Model } from "../src/client/models";

const model = (name: string, more: Partial<Model> = {}): Model => ({
  name, sources: ["vocals", "drums"], rate: 44_100, channels: 2, latency_ms: { min: 80, default: 80 }, licence: "MIT", present: true,
  interchangeable: false, default_for: [], ...more,
});
const slow = model("slow", { latency_ms: { min: 420.5, default: 2000 } });

describe("the dial", () => {
  it("offers the soonest first, people after music, and last what is not here", () => {
    const people = model("people", { interchangeable: true, latency_ms: { min: 5, default: 5 } });
    const absent = model("absent", { present: false, latency_ms: null });
    const turns = model("turns", { modes: ["diarize"] });
    expect(offered([absent, people, slow, model("fast"), turns]).map((one) => one.name)).toEqual(["fast", "slow", "people", "absent"]);
  });

  it("reaches from what is possible to what the model asks for", () => {
    expect(reach(slow)).toEqual({ least: 432, most: 2000, step: 16 }); // whole steps: a slider stands on those alone
    expect([reach(model("fast")), reach(model("new", { latency_ms: null })), reach(undefined)]).toEqual([null, null, null]);
  });

  it("tells what the machine can do", () => {
    const capacity = { sessions: 1, files: 0, free: { fast: 3, slow: 0 }, utilisation: {} };
    expect(account(model("fast"), null, capacity)).toBe("Promised within 80 ms; the server has room for 3 more like this.");
    expect(account(slow, 600, capacity)).toMatch(/^Promised within 600 ms; sooner than the model likes.*; the server has no room for another one now\.$/);
    expect(account(model("new", { latency_ms: null, present: false }), null, null)).toBe(
      "Not measured on this server yet; its weights have to be fetched first.",
    );
  });
});

it("pan is said in words", () => expect([0, -1, 0.5, 0.004].map(side)).toEqual(["centre", "100 left", "50 right", "centre"]));

describe("WHIP and WHEP", () => {
  const base = new URL("https://stems.example/");
  it("addresses say the model, the latency and a name that nobody guesses", () => {
    expect(whipAddress(base, { model: "music", latency: null }, "n".repeat(32))).toBe(`https://stems.example/whip?model=music&name=${"n".repeat(32)}`);
    expect(whipAddress(base, { model: "a b", latency: 200 }, "x")).toBe("https://stems.example/whip?model=a+b&latency_ms=200&name=x");
    expect(freshName()).toMatch(/^[0-9a-f]{32}$/);
    expect(freshName()).not.toBe(freshName());
  });

  it("all outputs, their sum, and each", () => {
    expect(whepAddresses(base, "abc", ["speaker_1"])).toEqual([
      ["All, a track each", "https://stems.example/whep/abc"],
      ["The mix", "https://stems.example/whep/abc?stem=mix"],
      ["Speaker 1", "https://stems.example/whep/abc?stem=speaker_1"],
    ]);
  });
});
