import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure } from "../src/client/errors";
import { Patience } from "../src/client/patience";
import { Session } from "../src/client/session";
import { READY, START, type Watched, Wire, chunk, handlers, plane, ramp, watched } from "./wire";

const TOKEN = READY.resume;
let wires: Wire[];
let on: Watched;
let session: Session;
let refuse: Failure | null; // what the next connections meet

const wire = (): Wire => wires[wires.length - 1];
const failure = (): Failure => on.failed.mock.calls[0][0];
const ready = (more: object = {}): void => wire().say({ ...READY, resume_samples: 4, ...more });
const error = (code: string, more: object = {}): void => wire().say({ type: "error", code, message: `no: ${code}`, fatal: true, ...more });
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

async function again(): Promise<Wire> {
  const before = wires.length;
  for (let i = 0; i < 100 && wires.length === before; i += 1) await pass(50);
  expect(wires.length).toBe(before + 1);
  wire().onopen?.();
  return wire();
}

beforeEach(async () => {
  vi.useFakeTimers();
  wires = [];
  refuse = null;
  on = watched();
  const connect = vi.fn(() => (refuse ? Promise.reject(refuse) : Promise.resolve(wires[wires.push(new Wire()) - 1])));
  session = new Session(connect, START, handlers(on), new Patience(30, () => 0.5));
  await pass(0);
  wire().onopen?.();
});

afterEach(() => {
  expect(on.failed.mock.calls.length + on.done.mock.calls.length).toBeLessThanOrEqual(1);
  vi.useRealTimers();
});

it("goes on where the stems stopped, and sends again what the server needs", async () => {
  ready();
  session.send(plane(0, 10));
  session.send(plane(10, 20));
  session.send(plane(20, 30));
  wire().say(chunk(0, 15));
  wire().drop();
  expect([session.away, session.room, on.away.mock.calls.length]).toEqual([true, false, 1]);
  const next = await again();
  expect(next.heard).toEqual([{ type: "resume", token: TOKEN, received: 15 }]);
  expect(session.room).toBe(false);
  ready({ replay_from: 12 });
  expect(next.heard.slice(1)).toEqual([ramp(12, 20), ramp(20, 30)]);
  expect([session.away, session.room, session.resumes, on.back.mock.calls.length, on.ready.mock.calls.length]).toEqual([false, true, 1, 1, 1]);
  next.say(chunk(15, 15));
  session.end();
  next.say({ type: "done", samples: 30 });
  expect([session.told, session.sent]).toEqual([30, 30]);
  expect(on.done).toHaveBeenCalledExactlyOnceWith(30);
  expect(on.stems.mock.calls.map(([one]) => one.start)).toEqual([0, 15]);
});

it("says the newest gains again, before the audio", async () => {
  ready();
  session.send(plane(0, 10));
  session.setGains({ vocals: 0.5 });
  wire().drop();
  session.setGains({ drums: 0 }); // while there is no connection
  await again();
  ready({ replay_from: 0 });
  expect(wire().heard.slice(1)).toEqual([{ type: "gains", gains: { vocals: 0.5, drums: 0 } }, ramp(0, 10)]);
});

it("uses the newest token", async () => {
  ready();
  wire().say({ type: "stats", heard: 0, told: 0, lag_ms: 1, compute_p50_ms: 1, compute_p95_ms: 1, queue_p95_ms: 1, resume: "newer" });
  wire().drop();
  expect((await again()).heard).toEqual([{ type: "resume", token: "newer", received: 0 }]);
});

it("sends marks and the end again, at their places, and answers a mark whose answer was lost", async () => {
  ready();
  session.send(plane(0, 10));
  const [early, late] = [session.mark(), session.mark()];
  session.send(plane(10, 20));
  const last = session.mark();
  session.end();
  wire().say({ type: "mark", id: "m0", sample: 10 });
  wire().say(chunk(0, 16));
  wire().drop();
  await again();
  ready({ replay_from: 12 });
  expect(wire().heard.slice(1)).toEqual([ramp(12, 20), { type: "mark", id: "m2" }, { type: "end" }]);
  expect(await Promise.all([early, late])).toEqual([10, 10]);
  wire().say({ type: "mark", id: "m2", sample: 20 });
  expect(await last).toBe(20);
});

it("keeps what is sent while it is away", async () => {
  ready();
  session.send(plane(0, 10));
  wire().drop();
  session.send(plane(10, 20));
  const mark = session.mark();
  await again();
  ready();
  expect(wire().heard.slice(1)).toEqual([ramp(0, 10), ramp(10, 20), { type: "mark", id: "m0" }]);
  wire().say({ type: "mark", id: "m0", sample: 20 });
  expect(await mark).toBe(20);
});

it("keeps no more than the server may ask for", () => {
  ready({ resume_samples: 100 });
  for (let at = 0; at < 5000; at += 10) {
    session.send(plane(at, at + 10));
    wire().say(chunk(at, 10));
  }
  const { pieces } = (session as unknown as { said: { pieces: unknown[] } }).said;
  expect(pieces.length).toBe(10);
});

it("loses the connection again during the replay", async () => {
  ready();
  session.send(plane(0, 10));
  session.send(plane(10, 20));
  wire().drop();
  await again();
  wire().drop(); // before ready
  await again();
  ready();
  wire().drop(); // the replay was on its way
  expect(session.away).toBe(true);
  const last = await again();
  expect(last.heard).toEqual([{ type: "resume", token: TOKEN, received: 0 }]);
  ready();
  expect(last.heard.slice(1)).toEqual([ramp(0, 10), ramp(10, 20)]);
  last.say(chunk(0, 20));
  expect([session.told, on.away.mock.calls.length, on.back.mock.calls.length]).toEqual([20, 2, 2]);
});

it("hears nothing of a connection that it has left", async () => {
  ready();
  const old = wire();
  old.drop();
  await again();
  old.say(chunk(0, 5));
  old.drop();
  expect(session.told).toBe(0);
  ready();
  expect(session.away).toBe(false);
});

describe("what may pass is waited for", () => {
  it.each(["capacity", "too_many", "draining", "internal"])("a refusal with %s, no sooner than the server says", async (code) => {
    ready();
    wire().drop();
    await again();
    error(code, { retry_after_ms: 7000 });
    await pass(6900);
    expect(wires.length).toBe(2);
    await again();
    ready();
    expect(session.away).toBe(false);
  });

  it.each([1000, 1001, 1006, 1011, 1012, 1013])("a close with %i", async (code) => {
    ready();
    wire().drop(code);
    await again();
    ready();
    expect(session.away).toBe(false);
  });

  it("a server that goes away and says so", async () => {
    ready();
    wire().say({ type: "draining", deadline_ms: 1000 });
    expect(session.away).toBe(false);
    error("draining");
    await again();
    ready();
    expect(session.away).toBe(false);
  });

  it("a connection that opens and says nothing", async () => {
    ready();
    wire().drop();
    const silent = await again();
    await pass(10_500);
    expect([silent.closed, wires.length]).toEqual([1000, 3]);
    wire().onopen?.();
    ready();
    expect(session.away).toBe(false);
  });

  it("a token that cannot be had for a while", async () => {
    ready();
    refuse = new Failure("The server cannot be reached.", "", "unreachable");
    wire().drop();
    await pass(5000);
    expect([wires.length, session.away]).toEqual([1, true]);
    refuse = null;
    await again();
    ready();
    expect(session.away).toBe(false);
  });
});

describe("it gives up", () => {
  it("when nobody came back in time, in words", async () => {
    ready();
    refuse = new Failure("The server cannot be reached.", "", "unreachable");
    wire().drop();
    await pass(29_000);
    expect(on.failed).not.toHaveBeenCalled();
    await pass(2000);
    expect(failure()).toMatchObject({ message: "The connection was lost, and could not be made again within 30 s.", code: "lost" });
  });

  it("on a server that takes the session up and drops it, over and over", async () => {
    ready();
    for (let i = 0; i < 30 && on.failed.mock.calls.length === 0; i += 1) {
      wire().drop();
      if (on.failed.mock.calls.length === 0) await again().then(() => ready());
    }
    expect(on.failed).toHaveBeenCalledOnce();
    expect(wires.length).toBeLessThan(20);
  });

  it.each(["resume", "unauthorized", "forbidden", "replaced"])("at once when it is refused with %s", async (code) => {
    ready();
    wire().drop();
    await again();
    error(code);
    await pass(60_000);
    expect([failure().code, wires.length]).toEqual([code, 2]);
    expect(failure().advice).not.toBe("");
  });

  it("at once on an error of its own, and on a server that cannot resume", async () => {
    ready();
    error("internal");
    expect(failure().code).toBe("internal");
    on = watched();
    const old = new Wire();
    new Session(() => Promise.resolve(old), START, handlers(on));
    await pass(0);
    old.say({ ...READY, resume: undefined });
    old.drop();
    await pass(60_000);
    expect(failure().message).toContain("connection was lost");
  });

  it.each([
    [{ session: "another" }, "got session another, expected s1"],
    [{ replay_from: 6 }, "got a replay from sample 6, expected at most 5"],
  ])("on an answer that does not fit: %j", async (more, words) => {
    ready();
    session.send(plane(0, 10));
    wire().say(chunk(0, 5));
    wire().drop();
    await again();
    ready(more);
    expect(failure().message).toBe(words);
  });
});

describe("a server that is full", () => {
  it("is asked again a few times when it says when, and its words are shown", async () => {
    for (let i = 1; i <= 5; i += 1) {
      error("capacity", { retry_after_ms: 2000 });
      expect(on.notice.mock.lastCall).toEqual([`The server said: no: capacity. Trying again in 2 s (${i} of 5).`]);
      expect((await again()).heard).toEqual([START]);
    }
    error("capacity", { retry_after_ms: 2000 });
    expect(failure().code).toBe("capacity");
  });

  it("lets the page in at last", async () => {
    error("too_many", { retry_after_ms: 500 });
    await again();
    ready();
    expect([session.room, on.failed.mock.calls.length, on.ready.mock.calls.length]).toEqual([true, 0, 1]);
  });
});

it("goes on with the turns of those who spoke", async () => {
  const turn = { id: 7, speaker: 0, start: 2, end: 10, final: false };
  const speakers = (told: number, turns: object[]): void => wire().say({ type: "speakers", told, active: [0], turns, dropped: [] });
  ready();
  session.send(plane(0, 20));
  speakers(10, [turn]);
  wire().drop();
  await again();
  ready({ replay_from: 0 });
  speakers(8, [{ ...turn, id: 0, end: 8 }]); // by a server that counts from its own beginning
  speakers(20, [{ ...turn, id: 0, end: 18, final: true }]);
  expect(on.speakers.mock.calls.map(([event]) => event.turns)).toEqual([[turn], [{ ...turn, end: 18, final: true }]]);
});

it("looks for no connection after it was closed", async () => {
  ready();
  wire().drop();
  session.close();
  await pass(60_000);
  expect([wires.length, on.failed.mock.calls.length]).toEqual([1, 0]);
});

describe("patience", () => {
  it("doubles, with chance, is bounded, and begins again when stems came", () => {
    const patience = new Patience(30, () => 0);
    const waits = [0, 1, 2, 3, 4, 5, 6].map((second) => patience.wait(1000 * second, 7));
    expect(waits).toEqual([125, 250, 500, 1000, 2000, 2000, 2000]);
    expect(patience.wait(29_000, 7)).toBe(1000);
    expect(patience.wait(30_000, 7)).toBeNull();
    expect(patience.wait(31_000, 8, 300)).toBe(300);
  });
});
