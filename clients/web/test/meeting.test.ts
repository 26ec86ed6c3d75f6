import { describe, expect, it } from "vitest";
import type { Model } from "../src/client/models";
import { Timeline, type Turn } from "../src/client/turns";
import { Book } from "../src/app/rooms/meeting/book";
import { Cast } from "../src/app/rooms/meeting/cast";
import { Levels } from "../src/app/rooms/meeting/levels";
import { USUAL, wanted } from "../src/app/rooms/meeting/options";
import { Recording } from "../src/app/rooms/meeting/recording";
import { place, span, step, ticks } from "../src/app/rooms/meeting/span";
import { BLOCK, Tracks } from "../src/app/rooms/meeting/tracks";
import { wav } from "../src/app/rooms/meeting/wav";
import { spoken, tenths } from "../src/app/rooms/meeting/words";
import { roomOf } from "../src/app/rooms";

const turn = (id: number, speaker: number, start: number, end: number, final = true): Turn => ({ id, speaker, start, end, final });
const book = (turns: Turn[]): Book => {
  const timeline = new Timeline(1000);
  timeline.take({ told: 0, active: [], turns, dropped: [] });
  const read = new Book();
  read.read(timeline);
  return read;
};
const chunk = (start: number, ...planes: number[][]) =>
  ({ start, frames: planes[0].length, stems: planes.length, channels: 1, planes: planes.map((plane) => Float32Array.from(plane)) });
const ramp = (length: number, from: number): number[] => Array.from({ length }, (_, i) => ((from + i) % 20_000) / 32_768);

describe("what everybody said", () => {
  it("is kept to the sample, however it comes", () => {
    const tracks = new Tracks();
    const all = ramp(3 * BLOCK + 77, 1);
    for (let at = 0, size = 1; at < all.length; at += size, size = (size * 7) % 5003) {
      const part = all.slice(at, at + size);
      tracks.add(chunk(at, part, part.map((sample) => -sample)));
    }
    expect(tracks.end).toBe(all.length);
    expect([...tracks.read(0, 0, all.length)]).toEqual(all.map(Math.fround));
    expect([...tracks.read(1, BLOCK - 3, 9)]).toEqual(all.slice(BLOCK - 3, BLOCK + 6).map((sample) => Math.fround(-sample)));
    const parts = tracks.parts(0, 5, all.length).flatMap((part) => [...part]);
    expect(parts).toEqual(all.slice(5).map((sample) => sample * 32_768));
  });

  it("costs nothing where it is silent", () => {
    const tracks = new Tracks();
    tracks.add(chunk(0, Array(4 * BLOCK).fill(0), [...Array(BLOCK + 5).fill(0), 0.5, ...Array(3 * BLOCK - 6).fill(0)]));
    expect(tracks.bytes).toBe(2 * BLOCK);
    expect(tracks.read(1, BLOCK + 4, 3)).toEqual(Float32Array.from([0, 0.5, 0]));
    expect(tracks.read(0, 0, 10)).toEqual(new Float32Array(10));
  });

  it("lets the oldest go when there is too much of it", () => {
    const tracks = new Tracks(5 * 2 * BLOCK);
    for (let at = 0; at < 8; at += 1) tracks.add(chunk(at * BLOCK, ramp(BLOCK, at + 1), ramp(BLOCK, at + 2)));
    expect(tracks.bytes).toBeLessThanOrEqual(5 * 2 * BLOCK);
    expect([tracks.from, tracks.end]).toEqual([6 * BLOCK, 8 * BLOCK]);
    expect([...tracks.read(1, 6 * BLOCK, 2)]).toEqual([8, 9].map((sample) => sample / 32_768));
    expect(tracks.read(0, 0, 4)).toEqual(new Float32Array(4));
  });

  it("is a WAV file", async () => {
    const bytes = await wav([Int16Array.from([1, -2]), Int16Array.from([3])], 16_000).arrayBuffer();
    const head = new DataView(bytes);
    expect(bytes.byteLength).toBe(44 + 6);
    expect([4, 24, 28, 40].map((at) => head.getUint32(at, true))).toEqual([42, 16_000, 32_000, 6]);
    expect([...new Int16Array(bytes, 44)]).toEqual([1, -2, 3]);
  });
});

describe("a recording", () => {
  it("goes up as one channel, to the last sample, and is let go of", () => {
    const left = Float32Array.from({ length: 10_000 }, (_, i) => (i % 100) / 128);
    const recording = new Recording([left, left.map((sample) => -sample / 2)]);
    const pieces: number[] = [];
    for (let block = recording.take(); block !== null; block = recording.take()) pieces.push(...block.planes[0]);
    expect(recording.length).toBe(10_000);
    expect(pieces).toEqual([...left].map((sample) => sample / 4));
    recording.close();
    expect(recording.take()).toBeNull();
  });
});

describe("the turns of a long meeting", () => {
  const many = Array.from({ length: 6000 }, (_, i) => turn(i, i % 3, i * 600, i * 600 + 700));
  const long = book(many);

  it("are found as a search through all of them finds them", () => {
    for (const [from, to] of [[0, 1], [699, 701], [1_000_000, 1_030_000], [3_599_000, 4_000_000], [5_000_000, 6_000_000]]) {
      for (const speaker of [0, 1, 2, 3]) {
        const expected = many.filter((one) => one.speaker === speaker && one.end > from && one.start < to);
        expect(long.between(speaker, from, to)).toEqual(expected);
      }
    }
    expect(long.at(600)).toEqual([0, 1]);
    expect(long.at(3_600_100)).toEqual([]);
  });

  it("say who spoke how long", () => {
    const read = book([turn(0, 0, 0, 60_000), turn(1, 1, 50_000, 70_000), turn(2, 0, 80_000, 100_000)]);
    expect([0, 1].map((speaker) => spoken(read, speaker, 1000))).toEqual(["1:20 · 80 %", "0:20 · 20 %"]);
    expect(spoken(book([]), 0, 1000)).toBe("");
    expect([0, 62.46, 3600].map(tenths)).toEqual(["0:00.0", "1:02.4", "60:00.0"]);
  });
});

describe("the stretch of time that is shown", () => {
  it("has the playhead inside, and more future in a recording", () => {
    const [live, file] = [span(520, 100, true), span(520, 100, false)];
    expect([live.seconds, file.seconds]).toEqual([20, 20]);
    expect(place(live, 100, 520)).toBeCloseTo(0.88 * 520);
    expect(place(file, 100, 520)).toBeCloseTo(0.5 * 520);
    expect(span(520, 3, false).from).toBe(0);
    expect(ticks(file, 5)).toEqual([90, 95, 100, 105, 110]);
    expect([20, 3600].map((seconds) => step(seconds, 520))).toEqual([5, 600]);
  });

  it("shows the loudest of each bar, wherever chunks end", () => {
    const levels = new Levels(1000); // bars of 128 samples
    const sound = Array(400).fill(0);
    [sound[5], sound[127], sound[128], sound[390]] = [0.2, -0.5, 0.3, 0.1];
    for (const [from, to] of [[0, 100], [100, 300], [300, 400]]) levels.add(chunk(from, sound.slice(from, to)));
    expect(levels.between(0, 0, 0.5).map(([, peak]) => Math.fround(peak))).toEqual([0.5, 0.3, 0, 0.1].map(Math.fround));
    expect(levels.between(1, 0, 0.2)).toEqual([[0, 0], [0.128, 0]]);
  });
});

describe("what is asked for", () => {
  const model = (name: string, more: Partial<Model> = {}): Model => ({
    name, sources: ["speaker_1", "speaker_2"], rate: 16_000, channels: 1, latency_ms: null, licence: "", present: true, interchangeable: true,
    default_for: [], modes: ["separate", "speakers", "diarize"], ...more,
  });
  const music = model("music", { sources: ["vocals", "drums"], modes: ["separate"] });
  const both = [music, model("speech", { default_for: ["microphone"] }), model("other")];

  it("is nothing but what was chosen", () => {
    expect(wanted(USUAL, both)).toEqual({ model: "speech", mode: "speakers" });
    expect(wanted({ ...USUAL, model: "other", mode: "diarize", max: 2 }, both)).toEqual({ model: "other", mode: "diarize", speakers: { max: 2 } });
    expect(wanted({ ...USUAL, model: "music", music: true, exclusive: true, buffer_s: 0.5, diarizer: "mine" }, both)).toEqual({
      model: "speech", mode: "speakers", speakers: { exclude_overlaps: true, buffer_time_s: 0.5, diarizer: "mine", first: "music" },
    });
  });

  it("leaves the music in where nothing can take it out", () => {
    expect(wanted({ ...USUAL, music: true }, [model("speech"), { ...music, present: false }])).toEqual({ model: "speech", mode: "speakers" });
  });
});

describe("who takes part", () => {
  it("keeps a name until it is empty", () => {
    const cast = new Cast(() => {});
    cast.setName(1, " Ada ");
    expect([0, 1].map((speaker) => cast.nameOf(speaker))).toEqual(["Speaker 1", "Ada"]);
    cast.setName(1, " ");
    expect(cast.nameOf(1)).toBe("Speaker 2");
  });

  it("is heard as the desk says", () => {
    const cast = new Cast(() => {});
    cast.setFader(0, { mute: true });
    expect(cast.gains(2, true)).toEqual([0, 1]);
    expect(cast.gains(2, false)).toEqual([0, 0]);
    cast.setFader(0, { mute: false, solo: true });
    expect(cast.gains(3, true)).toEqual([1, 0, 0]);
  });
});

describe("an address", () => {
  it.each([["#meeting", "meeting"], ["#live&key=rk_1", "live"], ["#key=rk_1&karaoke", "karaoke"], ["#key=live", null], ["", null], ["#cellar", null]])(
    "%s", (hash, name) => expect(roomOf(hash)?.name ?? null).toBe(name));
});
