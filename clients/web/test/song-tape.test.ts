import { describe, expect, it } from "vitest";
import type { Interval } from "../src/client/song-intervals";
import { SEAM, Tape } from "../src/client/song-tape";

const LONG = 100_000;
const all = (): number => LONG;

/** What lies on the tape: sample by sample the place in the song. */
function play(tape: Tape, frames: number, loop: Interval | null, through: (from: number) => number = all, most = 1000): number[] {
  const out: number[] = [];
  while (out.length < frames) {
    const start = tape.at;
    const cut = tape.next(Math.min(most, frames - out.length), LONG, loop, through);
    if (cut === null) break;
    expect(tape.at - start).toBe(cut.frames);
    if (cut.seam) expect(cut.song + cut.frames).toBeLessThanOrEqual(loop!.end);
    out.push(...Array.from({ length: cut.frames }, (_, i) => cut.song + i));
  }
  return out;
}

const run = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe("the tape", () => {
  it("plays the song to its last sample, and stops", () => {
    const tape = new Tape();
    expect(play(tape, 2 * LONG, null)).toEqual(run(0, LONG));
    expect([tape.song, tape.at]).toEqual([LONG, LONG]);
  });

  it("waits for what is not here", () => {
    const tape = new Tape();
    expect(play(tape, 5000, null, (from) => Math.max(from, 3000))).toEqual(run(0, 3000));
    expect(play(tape, 2000, null)).toEqual(run(3000, 5000));
  });

  it("loops without a gap and without a sample too many, in pieces of any size", () => {
    const loop = { start: 20_000, end: 21_111 };
    for (const most of [1, 7, 128, 8192]) {
      const tape = new Tape();
      tape.jump(19_990);
      const once = run(20_000, 21_111);
      expect(play(tape, 10 + 3 * once.length, loop, all, most)).toEqual([...run(19_990, 20_000), ...once, ...once, ...once]);
    }
  });

  it("blends before the end of the loop into what is before its beginning, sample against sample", () => {
    const loop = { start: 20_000, end: 30_000 };
    const tape = new Tape();
    tape.jump(loop.end - SEAM - 100);
    expect(tape.next(8192, LONG, loop, all)).toEqual({ song: 29_660, frames: 100, seam: null });
    expect(tape.next(200, LONG, loop, all)).toEqual({ song: 29_760, frames: 200, seam: { under: 19_760, done: 0 } });
    expect(tape.next(200, LONG, loop, all)).toEqual({ song: 29_960, frames: 40, seam: { under: 19_960, done: 200 } });
    expect(tape.next(200, LONG, loop, all)).toEqual({ song: 20_000, frames: 200, seam: null });
  });

  it("plays on to the end from behind the loop, and into it from before", () => {
    const loop = { start: 20_000, end: 30_000 };
    const behind = new Tape();
    behind.jump(LONG - 50);
    expect(play(behind, 1000, loop)).toEqual(run(LONG - 50, LONG));
    const before = new Tape();
    expect(play(before, 30_500, loop)).toEqual([...run(0, 30_000), ...run(20_000, 20_500)]);
  });

  it("knows which sample of the song lies where, after seeks and loops", () => {
    const tape = new Tape();
    const order = play(tape, 500, null);
    tape.jump(50_000);
    order.push(...play(tape, 2600, { start: 50_000, end: 51_000 }));
    tape.jump(7);
    order.push(...play(tape, 300, null));
    expect(order.map((_, at) => tape.songAt(at))).toEqual(order);
  });
});
