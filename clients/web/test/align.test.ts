import { describe, expect, it } from "vitest";
import { Aligner, type Played, played } from "../src/client/peer-align";

/** By mid: how late each track is by its counts, and the sample that it plays by its timestamps. */
const tracks = (...given: [late: number, ahead: number | null][]): Map<string, Played> =>
  new Map(given.map(([late, ahead], i) => [String(i), { late, ahead }]));

function looks(aligner: Aligner, given: Map<string, Played>, times = 2): Map<string, number>[] {
  return Array.from({ length: times }, () => aligner.look(given));
}

const delays = (aligner: Aligner, mids = ["0", "1", "2"]): number[] => mids.map((mid) => aligner.delayOf(mid));

describe("tracks of one session", () => {
  it("are held back until they are as late as the latest, to the sample", () => {
    const aligner = new Aligner();
    const given = tracks([100, 96_000], [649, 95_520], [97, 96_000]);
    expect(aligner.look(given).size).toBe(0); // once may be a moment between two of them
    expect([...aligner.look(given)]).toEqual([["0", 549], ["2", 552]]);
    expect(delays(aligner)).toEqual([549, 0, 552]);
    expect(aligner.look(given).size).toBe(0);
    looks(aligner, tracks([1000, 95_100], [649, 95_520], [649, 95_520]));
    expect(delays(aligner)).toEqual([0, 351, 351]);
  });

  it("are left as they are while it is not clear how late they are", () => {
    const aligner = new Aligner();
    for (let i = 0; i < 9; i += 1) expect(aligner.look(tracks([0, null], [100 * i, null])).size).toBe(0);
    expect(looks(aligner, tracks([0, null], [1600, null])).at(-1)?.size).toBe(1);
    for (const late of [1620, 1580, 1601]) expect(aligner.look(tracks([0, null], [late, null])).size).toBe(0); // a millisecond is nothing
  });

  it("that began later are known by their timestamps, which are right to a block", () => {
    const aligner = new Aligner();
    const given = tracks([0, 96_000], [30, 96_000 - 960 - 200]);
    looks(aligner, given, 4);
    expect(delays(aligner, ["0", "1"])).toEqual([0, 0]); // the counts are a millisecond apart at most
    looks(aligner, given, 3);
    expect(delays(aligner, ["0", "1"])).toEqual([990, 0]);
    looks(aligner, tracks([0, 96_000], [30, 96_000 - 30]), 7); // back again: packets that were thrown away
    expect(Math.abs(aligner.delayOf("0") - aligner.delayOf("1"))).toBeLessThanOrEqual(48);
  });

  it("do not jump by a timestamp that was dated in a burst", () => {
    const aligner = new Aligner();
    for (let i = 0; i < 40; i += 1) looks(aligner, tracks([0, 96_000], [300, 95_700 + (i % 4 === 0 ? 1920 : 0)]), 1);
    expect(delays(aligner, ["0", "1"])).toEqual([300, 0]);
  });

  it("are held back by so much and no more", () => {
    const aligner = new Aligner();
    looks(aligner, tracks([0, null], [1e6, null]));
    expect(aligner.delayOf("0")).toBe(9600);
  });
});

it("what a receiver did is counted as the statistics say it", () => {
  const row = { insertedSamplesForDeceleration: 700, concealedSamples: 960, removedSamplesForAcceleration: 50, packetsLost: 1 };
  expect(played(row, undefined, undefined)).toEqual({ late: 650, ahead: null });
  const last = { rtpTimestamp: 4800, timestamp: 1000, source: 1 };
  expect(played({}, { mid: "0", sample: 96_000, rtp: 4_294_967_296 - 480 }, last)).toEqual({ late: 0, ahead: 96_000 + 5280 - 48_000 });
});
