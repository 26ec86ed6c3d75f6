import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure } from "../src/client/errors";
import { Patience } from "../src/client/patience";
import { Redial } from "../src/client/peer-redial";
import { Later } from "../src/client/peer-signalling";
import { Chapters } from "../src/client/peer-turns";

interface Made {
  signal: AbortSignal;
  ready: () => void;
  refused: (failure: Failure) => void;
}

let calls: Made[];
let heard: number;
let redial: Redial;
const on = { away: vi.fn(), lost: vi.fn(), back: vi.fn(), notice: vi.fn(), failed: vi.fn() };

const failure = (code: string): Failure => new Failure(`no: ${code}`, "", code);
const full = (seconds: number): Later => new Later(failure("capacity"), 1000 * seconds);
const pass = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const told = (): number[] => Object.values(on).map((one) => one.mock.calls.length);

async function again(within = 5000): Promise<Made> {
  const before = calls.length;
  for (let at = 0; at < within && calls.length === before; at += 50) await pass(50);
  expect(calls.length).toBe(before + 1);
  return calls[before];
}

async function up(): Promise<void> {
  calls.at(-1)?.ready();
  await pass();
}

beforeEach(async () => {
  vi.useFakeTimers();
  for (const one of Object.values(on)) one.mockReset();
  [calls, heard] = [[], 0];
  const dial = (signal: AbortSignal) => new Promise<void>((ready, refused) => void calls.push({ signal, ready, refused }));
  redial = new Redial(dial, () => heard, on, new Patience(30, () => 0.5));
  void redial.start();
});

afterEach(() => {
  expect(on.failed.mock.calls.length).toBeLessThanOrEqual(1);
  vi.useRealTimers();
});

describe("a call that is lost", () => {
  beforeEach(up);

  it("is taken up by another one", async () => {
    redial.lost(failure("lost"));
    expect([calls[0].signal.aborted, redial.away, ...told()]).toEqual([true, true, 1, 1, 0, 0, 0]);
    await again();
    expect(redial.away).toBe(true);
    await up();
    expect([redial.away, redial.calls, ...told()]).toEqual([false, 2, 1, 1, 1, 0, 0]);
    expect(on.back).toHaveBeenCalledExactlyOnceWith(true);
  });

  it("may only have faltered", async () => {
    redial.falters(true);
    expect([redial.away, ...told()]).toEqual([true, 1, 0, 0, 0, 0]);
    await pass(2500);
    redial.falters(false);
    await pass(60_000);
    expect([redial.away, redial.calls, calls.length, ...told()]).toEqual([false, 1, 1, 1, 0, 1, 0, 0]);
    expect(on.back).toHaveBeenCalledExactlyOnceWith(false);
  });

  it("is given up when it falters for long, and told once", async () => {
    redial.falters(true);
    await pass(3000);
    expect([calls[0].signal.aborted, ...told()]).toEqual([true, 1, 1, 0, 0, 0]);
    redial.falters(false); // too late
    await again();
    await up();
    expect(on.back).toHaveBeenCalledExactlyOnceWith(true);
  });

  it("is tried for at growing intervals, for 30 s, and not for ever", async () => {
    const times: number[] = [];
    redial.lost(failure("lost"));
    for (let at = 0; at < 40_000; at += 50) {
      await pass(50);
      if (calls.length === times.length + 2) {
        times.push(at);
        calls.at(-1)?.refused(failure("unreachable"));
      }
    }
    const waits = times.map((at, i) => at - (times[i - 1] ?? 0));
    expect(waits.slice(0, 4)).toEqual([...waits.slice(0, 4)].sort((a, b) => a - b));
    expect(times.length).toBeGreaterThan(8);
    expect(times.at(-1)).toBeLessThanOrEqual(30_100);
    expect(on.failed.mock.calls[0][0]).toMatchObject({ code: "lost", message: expect.stringContaining("within 30 s") });
    expect(told()).toEqual([1, 1, 0, 0, 1]);
  });

  it("is not tried for longer by a server that takes it up and drops it", async () => {
    heard = 480;
    redial.lost(failure("lost"));
    for (let at = 0; at < 40_000 && on.failed.mock.calls.length === 0; at += 50) {
      await pass(50);
      const call = calls.at(-1);
      if (call && !call.signal.aborted) {
        await up();
        redial.lost(failure("lost"));
      }
    }
    expect(on.failed).toHaveBeenCalledOnce();
    expect(calls.length).toBeGreaterThan(5);
  });

  it("has all its patience again once something has come", async () => {
    for (let turn = 0; turn < 3; turn += 1) {
      heard += 48_000;
      redial.lost(failure("lost"));
      for (const until = performance.now() + 25_000; performance.now() < until; await pass(50)) {
        if (!calls.at(-1)?.signal.aborted) calls.at(-1)?.refused(failure("unreachable"));
      }
      await again(8000);
      await up();
      expect([redial.away, on.failed.mock.calls.length]).toEqual([false, 0]);
    }
  });

  it("waits as long as a server says that is full or goes away, and gives up a try that nobody answers", async () => {
    redial.lost(failure("draining"), 2000);
    await pass(1900);
    expect(calls.length).toBe(1);
    await again();
    calls[1].refused(full(5));
    await pass(4800);
    expect(calls.length).toBe(2);
    await again();
    await pass(10_000);
    expect(calls[2].signal.aborted).toBe(true);
    calls[2].ready(); // too late
    await pass();
    expect(redial.away).toBe(true);
    await again();
    await up();
    expect([redial.away, on.failed.mock.calls.length]).toEqual([false, 0]);
  });

  it.each(["forbidden", "unknown_model", "latency", "no_webrtc"])("is over when another one is refused for good: %s", async (code) => {
    redial.lost(failure("lost"));
    (await again()).refused(failure(code));
    await pass(60_000);
    expect(on.failed.mock.calls[0][0]).toMatchObject({ code });
    expect(calls.length).toBe(2);
  });

  it("is not taken up after a close", async () => {
    redial.lost(failure("lost"));
    const call = await again();
    redial.close();
    expect(call.signal.aborted).toBe(true);
    call.ready();
    await pass(60_000);
    expect([calls.length, redial.calls, ...told()]).toEqual([2, 1, 1, 1, 0, 0, 0]);
  });
});

describe("the first call", () => {
  it("is tried five times more where the server is full and says when", async () => {
    for (let turn = 1; turn <= 5; turn += 1) {
      calls.at(-1)?.refused(full(7));
      await pass(6900);
      expect(calls.length).toBe(turn);
      await again();
      expect(on.notice).toHaveBeenLastCalledWith(`no: capacity Trying again in 7 s (${turn} of 5).`);
    }
    calls.at(-1)?.refused(full(7));
    await pass(60_000);
    expect([calls.length, ...told()]).toEqual([6, 0, 0, 0, 5, 1]);
  });

  it.each([failure("capacity"), failure("unreachable"), failure("ice"), new Later(failure("internal"), 1000)])("fails otherwise", async (why) => {
    calls[0].refused(why);
    await pass(60_000);
    expect(on.failed).toHaveBeenCalledExactlyOnceWith(why);
    expect(calls.length).toBe(1);
  });

  it("may take its time", async () => {
    await pass(60_000);
    await up();
    expect([redial.calls, ...told()]).toEqual([1, 0, 0, 0, 0, 0]);
  });
});

describe("turns over calls that are lost", () => {
  const turn = (id: number, start: number, end: number, final = true) => ({ id, speaker: id % 2, start, end, final });

  it("go on behind those of before, under new ids and on the same lanes", () => {
    const chapters = new Chapters();
    const first = { told: 900, active: [1], turns: [turn(0, 0, 400), turn(3, 500, 900, false)], dropped: [] };
    expect(chapters.take(first)).toEqual(first);
    expect(chapters.broken(1000)).toEqual({ told: 900, active: [], turns: [turn(3, 500, 900)], dropped: [] });
    const second = chapters.take({ told: 300, active: [0], turns: [turn(0, 100, 300, false)], dropped: [1] });
    expect(second).toEqual({ told: 1300, active: [0], turns: [{ ...turn(0, 1100, 1300, false), id: 4 }], dropped: [5] });
    expect(chapters.take({ told: 400, active: [], turns: [], dropped: [0] }).dropped).toEqual([4]);
    expect(chapters.broken(5000)?.turns).toEqual([]);
    expect(chapters.take({ told: 1, active: [], turns: [turn(0, 0, 1)], dropped: [] }).turns).toEqual([{ ...turn(0, 5000, 5001), id: 6 }]);
  });

  it("say nothing of a session that told nothing", () => expect(new Chapters().broken(77)).toBeNull());
});
