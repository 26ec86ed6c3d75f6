import { describe, expect, it } from "vitest";
import { BIN, Peaks } from "../src/client/peaks";
import { Cache, JOIN } from "../src/client/song-cache";
import { Intervals } from "../src/client/song-intervals";

const random = (seed: number) => () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;

describe("intervals", () => {
  it("hold what a set of samples holds, whatever is added and taken away", () => {
    const next = random(7);
    const held = new Intervals();
    const told = new Set<number>();
    for (let turn = 0; turn < 300; turn += 1) {
      const start = Math.floor(next() * 90);
      const end = start + Math.floor(next() * 12);
      const adds = next() < 0.6;
      if (adds) held.add(start, end);
      else held.remove(start, end);
      for (let i = start; i < end; i += 1) adds ? told.add(i) : told.delete(i);
      expect(held.size).toBe(told.size);
      const at = Math.floor(next() * 100);
      let through = at;
      while (told.has(through)) through += 1;
      expect(held.through(at)).toBe(through);
      let stop = through;
      while (stop < 100 && !told.has(stop)) stop += 1;
      expect(held.hole(at, 100)).toEqual(through >= 100 ? null : { start: through, end: stop });
    }
    expect(held.all.every(({ start, end }, i, all) => start < end && (i === 0 || all[i - 1].end < start))).toBe(true);
  });
});

const LONG = 200_000;
const wave = (from: number, frames: number, scale = 1): Float32Array[] =>
  [1, -1].map((sign) => Float32Array.from({ length: frames }, (_, i) => (sign * scale * (1 + (((from + i) * 37) % 20_000))) / 32768));

/** Whether two sounds are the same; a comparison by the library takes seconds. */
const same = (a: Float32Array[], b: Float32Array[]): boolean =>
  a.length === b.length && a.every((plane, p) => plane.length === b[p].length && plane.every((x, i) => x === b[p][i]));

const back = (cache: Cache, from: number, frames: number): Float32Array[] => {
  const into = [0, 1].map(() => new Float32Array(frames));
  cache.read(from, frames, into);
  return into;
};

describe("the cache", () => {
  it("gives back the very samples that came, across its blocks, in any order of parts", () => {
    const cache = new Cache(LONG, 2);
    for (const [from, frames] of [[150_000, 60_000], [0, 70_001], [60_000, 100_000]]) cache.write(from, wave(from, frames));
    expect(cache.complete).toBe(true);
    expect(same(back(cache, 0, LONG), wave(0, LONG))).toBe(true); // the parts agree, so their cross-fades change nothing
  });

  it("reads silence where nothing is, before the song too", () => {
    const cache = new Cache(LONG, 2);
    cache.write(1000, wave(1000, 1000));
    expect(back(cache, 900, 200)[0].slice(0, 100).every((x) => x === 0)).toBe(true);
    expect(back(cache, 900, 200)[0].slice(100)).toEqual(wave(1000, 100)[0]);
    expect(back(cache, -50, 40)[1].every((x) => x === 0)).toBe(true);
    expect(cache.complete).toBe(false);
  });

  it("joins parts that differ without a step, and leaves the first one as it was beyond the join", () => {
    const cache = new Cache(LONG, 2);
    const flat = (value: number, frames: number): Float32Array[] => [0, 1].map(() => new Float32Array(frames).fill(value));
    cache.write(0, flat(0.25, 50_000));
    cache.write(100_000, flat(0.25, 50_000));
    cache.write(49_000, flat(0.75, 52_000)); // 1000 samples more than is missing, on both sides
    const [left] = back(cache, 0, 150_000);
    expect(left.slice(0, 50_000 - JOIN).every((x) => x === 0.25)).toBe(true);
    expect(left.slice(50_000, 100_000).every((x) => x === 0.75)).toBe(true);
    expect(left.slice(100_000 + JOIN).every((x) => x === 0.25)).toBe(true);
    const steepest = left.slice(1).reduce((most, x, i) => Math.max(most, Math.abs(x - left[i])), 0);
    expect(steepest).toBeLessThan(0.5 / JOIN + 2 / 32768);
  });

  it("tells what is new, once", () => {
    const cache = new Cache(LONG, 2);
    const told: [number, number][] = [];
    cache.onadd = (start, planes) => told.push([start, planes[0].length]);
    cache.write(0, wave(0, 1000));
    cache.write(5000, wave(5000, 1000));
    cache.write(500, wave(500, 7000));
    expect(told).toEqual([[0, 1000], [5000, 1000], [1000, 4000], [6000, 1500]]);
  });

  it("keeps what is around the playhead, and no more", () => {
    const cache = new Cache(LONG, 2);
    cache.write(0, wave(0, LONG));
    const all = cache.bytes;
    cache.keep(100_000, 120_000);
    expect(cache.held.all).toEqual([{ start: 98_304, end: 131_072 }]); // the block of 32768 that these lie in
    expect(cache.bytes).toBeLessThan(all / 5);
    expect(same(back(cache, 100_000, 20_000), wave(100_000, 20_000))).toBe(true);
    cache.write(90_000, wave(90_000, 20_000));
    expect(cache.held.all).toEqual([{ start: 90_000, end: 131_072 }]);
  });

  it("clips what is beyond full scale and refuses a wrong number of planes", () => {
    const cache = new Cache(100, 1);
    cache.write(0, [Float32Array.of(2, -2, 0.5)]);
    const into = [new Float32Array(3)];
    cache.read(0, 3, into);
    expect([...into[0]]).toEqual([32767 / 32768, -1, 0.5]);
    expect(() => cache.write(0, wave(0, 5))).toThrow("got 2 planes, this song has 1");
  });
});

it("peaks: the loudest sample of each column, a stem, whatever parts it came in", () => {
  const length = 10 * BIN + 17;
  const sound = Float32Array.from({ length }, (_, i) => Math.sin(i) * (i / length));
  const peaks = new Peaks(length, 2, 1);
  for (let at = 0; at < length; at += 700) peaks.add(at, [sound.subarray(at, at + 700), sound.subarray(at, at + 700).map((x) => -x / 2)]);
  const loudest = (from: number, to: number): number => Math.max(...sound.slice(from, to).map(Math.abs));
  const expected = Array.from({ length: 11 }, (_, bin) => loudest(bin * BIN, (bin + 1) * BIN));
  peaks.columns(0, 11).forEach((peak, i) => {
    expect(peak).toBeLessThanOrEqual(Math.fround(Math.max(expected[i], expected[Math.min(10, i + 1)])));
    expect(peak).toBeGreaterThanOrEqual(Math.fround(Math.min(expected[i], expected[Math.max(0, i - 1)])));
  });
  expect(peaks.columns(0, 1)[0]).toBeCloseTo(loudest(0, length));
  expect(peaks.columns(1, 1)[0]).toBeCloseTo(loudest(0, length) / 2);
  expect(peaks.columns(0, 500).length).toBe(500); // more columns than bins
});
