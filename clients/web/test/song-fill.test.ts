// Where the cache is filled, in which order, and what happens when the server says no. The server is a wire that a test
// answers through: its stem is the song itself.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure } from "../src/client/errors";
import { Cache } from "../src/client/song-cache";
import { type Aim, Fill } from "../src/client/song-fill";
import { answer as answered, answered as toldBy, pcm as sentTo } from "./song-server";
import { READY, Wire } from "./wire";

const RATE = 1000;
const LONG = 60_000; // a minute
const SONG = { name: "x", rate: RATE, planes: [Float32Array.from({ length: LONG }, (_, i) => (1 + (i % 30_000)) / 32768)] };
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

let wires: Wire[];
let refuse: Failure | null;
let cache: Cache | null;
let fill: Fill;
const on = { ready: vi.fn(), stats: vi.fn(), notice: vi.fn(), away: vi.fn(), failed: vi.fn() };

const wire = (): Wire => wires[wires.length - 1];
const started = (): Record<string, unknown> => JSON.parse(String(wire().sent[0]));
const pcm = (): Int16Array => sentTo(wire());

/** From the playhead on, then what is left. */
const whole = (playhead: number): Aim => ({
  playhead, soon: [{ start: playhead, end: Math.min(LONG, playhead + 5 * RATE) }], later: [{ start: playhead, end: LONG }, { start: 0, end: LONG }],
});

const answer = (samples: number): void => answered(wire(), samples);

async function ready(): Promise<void> {
  await pass(0);
  wire().onopen?.();
  wire().say({ ...READY, stems: ["vocals"], rate: RATE, resume: undefined, latency_samples: 100 });
  await pass(60);
}

function right(): boolean {
  const into = [new Float32Array(LONG)];
  cache!.read(0, LONG, into);
  return cache!.held.all.every(({ start, end }) => into[0].subarray(start, end).every((x, i) => x === SONG.planes[0][start + i]));
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  [wires, refuse, cache] = [[], null, null];
  on.ready.mockImplementation(() => (cache ??= new Cache(LONG, 1)));
  const connect = vi.fn(() => (refuse ? Promise.reject(refuse) : Promise.resolve(wires[wires.push(new Wire()) - 1])));
  fill = new Fill(SONG, connect, { model: "music" }, () => cache, on);
});

afterEach(() => {
  fill.close();
  vi.useRealTimers();
});

it("asks for a file, as fast as it goes, and is done when all of it is here", async () => {
  fill.aim(whole(0));
  await ready();
  expect(started()).toMatchObject({ model: "music", rate: RATE, channels: 1, live: false });
  expect(pcm().length).toBeGreaterThan(10_000);
  expect(pcm().length).toBeLessThan(10_100 + 4096); // no more than the server can work on
  answer(LONG);
  expect(wire().heard.at(-1)).toEqual({ type: "end" });
  expect([cache!.complete, wire().closed, fill.session, right()]).toEqual([true, 1000, null, true]);
  fill.aim(whole(30_000));
  await pass(10_000);
  expect(wires.length).toBe(1);
});

it("a seek to what is not here begins there, a second earlier for the model's memory; then what was left out is made good", async () => {
  fill.aim(whole(0));
  await ready();
  answer(10_000);
  fill.aim(whole(40_000));
  expect(wires[0].closed).toBe(1000);
  await ready();
  expect(pcm()[0]).toBe(1 + (39_000 % 30_000));
  answer(3000);
  expect(cache!.held.all).toEqual([{ start: 0, end: 10_000 }, { start: 39_520, end: 42_000 }]); // not the memory's second, but the join
  fill.aim(whole(41_000));
  expect(wires.length).toBe(2);
  answer(21_000);
  await ready();
  expect([wires.length, pcm()[0]]).toEqual([3, 1 + 9000]);
  answer(LONG);
  expect([cache!.complete, right(), wire().closed, fill.sessions]).toEqual([true, true, 1000, 3]);
  expect(toldBy(wire())).toBeLessThan(32_000); // not to the end of the song once more
});

it("keeps a session that gets there by itself, and one whose missing part may wait", async () => {
  fill.aim(whole(0));
  await ready();
  answer(10_000);
  fill.aim(whole(11_500));
  fill.aim(whole(2000));
  expect(wires.length).toBe(1);
  fill.aim(whole(12_500));
  await pass(0);
  expect(wires.length).toBe(2);
});

it("what is looped comes first", async () => {
  fill.aim(whole(0));
  await ready();
  answer(5000);
  const loop = { start: 20_000, end: 24_000 };
  fill.aim({ playhead: 22_000, soon: [{ start: 22_000, end: 24_000 }, loop], later: whole(22_000).later });
  await ready();
  answer(3700);
  expect(cache!.held.hole(22_000, 24_000)).toBeNull();
  fill.aim({ playhead: 23_500, soon: [{ start: 23_500, end: 24_000 }, loop], later: whole(23_500).later });
  await ready();
  expect(pcm()[0]).toBe(1 + 19_000);
});

describe("a server that has no place for a file", () => {
  const full = { type: "error", code: "capacity", message: "all 8 places for files are taken", fatal: true, retry_after_ms: 30_000 };

  it("is asked for a live session, and given no more than 8 s before the playhead", async () => {
    fill.aim(whole(0));
    await pass(0);
    wire().onopen?.();
    wire().say(full);
    await ready();
    expect([wires.length, "live" in started()]).toEqual([2, false]);
    expect(pcm().length).toBeGreaterThanOrEqual(8 * RATE + 100);
    expect(pcm().length).toBeLessThan(8 * RATE + 100 + 4096);
    answer(6000);
    fill.aim(whole(5000));
    await pass(60);
    expect([wires.length, right()]).toEqual([2, true]);
    expect(pcm().length).toBeGreaterThanOrEqual(13 * RATE);
    expect(on.failed).not.toHaveBeenCalled();
  });
});

it("a song that is too long is separated so far ahead and no further, and goes on in the same session", async () => {
  const near = (playhead: number): Aim => ({ playhead, soon: [{ start: playhead, end: playhead + 5000 }], later: [{ start: playhead, end: playhead + 20_000 }] });
  fill.aim(near(0));
  await ready();
  expect(pcm().length).toBeLessThan(20_100 + 4096);
  answer(20_000);
  fill.aim(near(0));
  expect(wire().closed).toBeUndefined();
  fill.aim(near(15_000));
  await pass(60);
  expect(pcm().length).toBeGreaterThanOrEqual(30_000);
  expect(wires.length).toBe(1);
});

it("a session that the server gave up is begun anew when it is needed", async () => {
  fill.aim(whole(0));
  await ready();
  answer(10_000);
  wire().say({ type: "error", code: "timeout", message: "nothing came for 60 s", fatal: true });
  expect([fill.stopped, on.failed.mock.calls.length]).toEqual([false, 0]);
  fill.aim(whole(9000));
  await ready();
  expect([wires.length, pcm()[0]]).toEqual([2, 1 + 9000]);
});

it("says that the server is gone, asks again by itself, and at once when somebody plays", async () => {
  fill.aim(whole(0));
  await ready();
  answer(10_000);
  refuse = new Failure("gone", "wait", "unreachable");
  wire().drop();
  expect(on.failed).toHaveBeenCalledTimes(1);
  fill.aim(whole(1000));
  expect(fill.stopped).toBe(true);
  await pass(3100);
  expect(on.failed).toHaveBeenCalledTimes(2);
  refuse = null;
  fill.retry();
  await ready();
  answer(LONG);
  expect([cache!.complete, right(), fill.stopped]).toEqual([true, true, false]);
  expect(pcm()[0]).toBe(1 + 9000);
});
