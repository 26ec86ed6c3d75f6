import { beforeEach, describe, expect, it } from "vitest";
import golden from "../../../tests/golden_wire.json";
import { Session } from "../src/client/session";
import { READY, START, type Watched, Wire, handlers, watched } from "./wire";

const CHUNK = Uint8Array.from(golden.binary[0].hex.match(/../g) ?? [], (two) => parseInt(two, 16)).buffer;

let wire: Wire;
let on: Watched;
let session: Session;

beforeEach(async () => {
  wire = new Wire();
  on = watched();
  session = new Session(() => Promise.resolve(wire), START, handlers(on));
  await Promise.resolve();
  wire.onopen?.();
});

const failure = (): { message: string; advice: string; code: string } => on.failed.mock.calls[0][0];

it("goes through a whole session in order", async () => {
  expect(JSON.parse(String(wire.sent[0]))).toEqual({ type: "start", model: "music", rate: 48000, channels: 1, format: "s16le" });
  expect(session.room).toBe(false);
  wire.say(READY);
  expect([session.room, on.ready.mock.calls[0][0].stems]).toEqual([true, ["mix"]]);
  session.send([new Float32Array(5)]);
  const marked = session.mark();
  session.end();
  session.end();
  expect(wire.sent.slice(2).map((text) => JSON.parse(String(text)))).toEqual([{ type: "mark", id: "m0" }, { type: "end" }]);
  wire.say(CHUNK);
  wire.say({ type: "mark", id: "m0", sample: 5 });
  wire.say({ type: "done", samples: 5 });
  wire.onclose?.({ code: 1000, reason: "" });
  expect(await marked).toBe(5);
  expect([session.sent, session.told, session.room]).toEqual([5, 5, false]);
  expect(on.done).toHaveBeenCalledExactlyOnceWith(5);
  expect(on.failed).not.toHaveBeenCalled();
  await expect(session.mark()).rejects.toThrow("no session");
});

it("has no room while the browser's buffer is full", () => {
  wire.say(READY);
  wire.bufferedAmount = 1 << 20;
  expect(session.room).toBe(false);
  wire.bufferedAmount = 0;
  expect(session.room).toBe(true);
});

describe("failures are told once, in words, with what to do", () => {
  it("an error of the server", () => {
    wire.say({ type: "error", code: "capacity", message: "all 64 sessions are taken", fatal: true });
    wire.onclose?.({ code: 1013, reason: "" });
    expect(on.failed).toHaveBeenCalledOnce();
    expect(failure()).toMatchObject({ message: "The server said: all 64 sessions are taken.", code: "capacity" });
    expect(failure().advice).toContain("Wait a minute");
  });

  it.each([
    [1006, false, "cannot be reached"],
    [1006, true, "connection was lost"],
    [1012, true, "restarting"],
    [4503, true, "model_unavailable"],
  ])("a close with %i, begun: %s", (code, begun, words) => {
    if (begun) wire.say({ ...READY, resume: undefined }); // of a server that cannot resume
    wire.onclose?.({ code, reason: "" });
    expect(failure().message).toContain(words);
    expect(failure().advice).not.toBe("");
  });

  it("stems that do not fit what was agreed", () => {
    wire.say(READY);
    wire.say(CHUNK);
    wire.say(CHUNK);
    expect(failure().message).toBe("got stems from sample 0, expected 5");
    expect(wire.closed).toBe(1000);
  });

  it("but a harmless one is a notice, and an unknown message nothing", () => {
    wire.say(READY);
    wire.say({ type: "error", code: "not_finite", message: "got NaN", fatal: false });
    wire.say({ type: "weather", turns: [] });
    expect(on.notice).toHaveBeenCalledExactlyOnceWith("got NaN");
    expect(on.failed).not.toHaveBeenCalled();
  });
});

it("says nothing after it was closed", () => {
  wire.say(READY);
  session.close();
  wire.say(CHUNK);
  wire.onclose?.({ code: 1006, reason: "" });
  expect([on.stems.mock.calls.length, on.failed.mock.calls.length]).toEqual([0, 0]);
});

it("turns the knobs of the server's mix, and hears that the server is going away", () => {
  expect(() => session.setGains({ vocals: 0 })).toThrow("no session is open for gains");
  wire.say(READY);
  session.setGains({ vocals: 0, drums: 2 });
  expect(JSON.parse(String(wire.sent.at(-1)))).toEqual({ type: "gains", gains: { vocals: 0, drums: 2 } });
  wire.say({ type: "draining", deadline_ms: 5000 });
  expect(on.failed).not.toHaveBeenCalled();
});
