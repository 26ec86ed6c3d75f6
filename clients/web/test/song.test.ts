// The deck without a player: what is asked for, and what is kept, while the playhead moves.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Deck, type SongEvents } from "../src/client/song";
import { answer } from "./song-server";
import { READY, Wire } from "./wire";

const RATE = 1000;
const LONG = 900_000; // 15 minutes
const SONG = { name: "x", rate: RATE, planes: [Float32Array.from({ length: LONG }, (_, i) => (1 + (i % 30_000)) / 32768)] };
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

let wires: Wire[];
let on: { [K in keyof SongEvents]: ReturnType<typeof vi.fn> };
const wire = (): Wire => wires[wires.length - 1];

function deck(most?: number): Deck {
  const connect = (): Promise<Wire> => Promise.resolve(wires[wires.push(new Wire()) - 1]);
  return new Deck(SONG, connect, { model: "music" }, on as unknown as SongEvents, most);
}

async function ready(): Promise<void> {
  await pass(0);
  wire().onopen?.();
  wire().say({ ...READY, stems: ["vocals"], rate: RATE, resume: undefined, latency_samples: 100 });
  await pass(60);
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("navigator", {});
  wires = [];
  on = { ready: vi.fn(), change: vi.fn(), grown: vi.fn(), report: vi.fn(), stats: vi.fn(), notice: vi.fn(), away: vi.fn(), failed: vi.fn() };
});

afterEach(() => vi.useRealTimers());

it("a song that fits is separated to its end without anybody playing it", async () => {
  const one = deck(2 * LONG);
  await ready();
  expect(one.whole).toBe(true);
  answer(wire(), LONG, 20_000);
  expect([one.cache!.complete, one.stems, wires.length]).toEqual([true, ["vocals"], 1]);
  expect(on.grown).toHaveBeenCalled();
  one.close();
});

it("a song that is too long goes through memory with the playhead, back and forth", async () => {
  const one = deck(2 * LONG - 1);
  await ready();
  expect(one.whole).toBe(false);
  let most = 0;
  for (let at = 0; at < 600_000; at += 40_000) {
    one.seek(at);
    await pass(60);
    answer(wire(), Infinity, 10_000);
    most = Math.max(most, one.cache!.bytes);
    const ahead = one.cache!.held.through(at) - at;
    expect(ahead).toBeGreaterThan(60_000);
    expect(ahead).toBeLessThan(200_000);
  }
  expect(wires.length).toBe(1);
  expect(most).toBeLessThan(2 * 400_000); // a minute behind, two before, and whole blocks
  expect(one.cache!.held.through(0)).toBe(0);
  one.seek(5000);
  await ready();
  answer(wire(), Infinity, 10_000);
  expect([wires.length, one.cache!.held.through(5000) > 60_000]).toEqual([2, true]);
  one.close();
  expect(wires.every((each) => each.closed === 1000)).toBe(true);
});

it("puts a loop's ends in order and apart, and inside the song", () => {
  const one = deck(2 * LONG);
  one.setLoop({ start: 9000, end: 2000 });
  expect(one.loop).toEqual({ start: 2000, end: 9000 });
  one.setLoop({ start: 5000.4, end: 5001 });
  expect(one.loop).toEqual({ start: 5000, end: 5100 });
  one.setLoop({ start: LONG - 1, end: LONG + 50 });
  expect(one.loop).toEqual({ start: LONG - 100, end: LONG });
  one.setLoop(null);
  expect(one.loop).toBeNull();
  one.close();
});

it("a seek stays inside the song", () => {
  const one = deck(2 * LONG);
  one.seek(-5);
  expect(one.position).toBe(0);
  one.seek(2 * LONG);
  expect(one.position).toBe(LONG);
  one.close();
});
