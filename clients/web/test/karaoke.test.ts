import { describe, expect, it } from "vitest";
import { louder, mixOf, peakOf, stemOf } from "../src/client/export-stems";
import { wav } from "../src/client/export-wav";
import { zip } from "../src/client/export-zip";
import { Cache } from "../src/client/song-cache";
import { FLOOR, gains } from "../src/app/faders";
import { Spectrum } from "../src/app/rooms/karaoke/fft";
import { Keys } from "../src/app/rooms/karaoke/keys";
import { presets } from "../src/app/rooms/karaoke/presets";

describe("files", () => {
  const LONG = 70_000; // more than one piece
  const sound = (p: number) => Float32Array.from({ length: LONG }, (_, i) => ((i * (7 + p)) % 2000) / 32768 - 0.03);
  const cache = new Cache(LONG, 4); // two stems in stereo
  cache.write(0, [0, 1, 2, 3].map(sound));

  it("16 bits: the very samples that came, interleaved, under a header that says so", async () => {
    const bytes = new DataView(await wav(stemOf(cache, 1, 2), LONG, 2, 48_000, 16).arrayBuffer());
    const words = [20, 22, 32, 34].map((at) => bytes.getUint16(at, true));
    expect(words).toEqual([1, 2, 4, 16]);
    expect([4, 24, 28, 40].map((at) => bytes.getUint32(at, true))).toEqual([36 + 4 * LONG, 48_000, 192_000, 4 * LONG]);
    const samples = new Int16Array(bytes.buffer, 44);
    const expected = [2, 3].map(sound);
    expect(samples.every((x, i) => x === Math.round(32768 * expected[i % 2][i >> 1]))).toBe(true);
  });

  it("24 bits: the mix as the faders stand, finer than 16", async () => {
    const read = mixOf(cache, [0.5, 0.3]);
    const bytes = new Uint8Array(await wav(read, LONG, 2, 48_000, 24).arrayBuffer(), 44);
    expect(bytes.length).toBe(6 * LONG);
    const into = [0, 1, 2, 3].map(() => new Float32Array(LONG));
    cache.read(0, LONG, into);
    const value = (i: number): number => ((bytes[3 * i] | (bytes[3 * i + 1] << 8) | (bytes[3 * i + 2] << 16)) << 8) >> 8;
    let worst = 0;
    for (let i = 0; i < 2 * LONG; i += 1) worst = Math.max(worst, Math.abs(value(i) / 2 ** 23 - (0.5 * into[i % 2][i >> 1] + 0.3 * into[2 + (i % 2)][i >> 1])));
    expect(worst).toBeLessThan(2 ** -23);
  });

  it("mono stems go to both sides of a mix", () => {
    const mono = new Cache(100, 2);
    mono.write(0, [new Float32Array(100).fill(0.5), new Float32Array(100).fill(0.25)]);
    expect(mixOf(mono, [1, 0.5])(0, 10).map((side) => side[3])).toEqual([0.625, 0.625]);
    expect(peakOf(louder(mixOf(mono, [1, 0.5]), 2), 100)).toBe(1.25);
  });

  it("refuses what a WAV file cannot hold", () => {
    expect(() => wav(() => [], 2 ** 30, 2, 48_000, 24)).toThrow("at most 4 GB");
  });

  it("a zip holds its files as they are", async () => {
    const bytes = new Uint8Array(await (await zip([{ name: "a.wav", file: new Blob(["drums and bass"]) }])).arrayBuffer());
    const text = String.fromCharCode(...bytes);
    expect([bytes[0], bytes[1], text.includes("a.wav"), text.includes("drums and bass")]).toEqual([80, 75, true, true]);
  });
});

describe("the spectrum", () => {
  it("is that of the definition", () => {
    const size = 64;
    const sound = Float32Array.from({ length: size }, (_, i) => Math.sin(i * i * 0.1) * 0.7);
    const levels = new Spectrum(size).levels(sound);
    for (let k = 0; k < size / 2; k += 1) {
      let [re, im] = [0, 0];
      for (let i = 0; i < size; i += 1) {
        const x = sound[i] * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
        re += x * Math.cos((2 * Math.PI * i * k) / size);
        im -= x * Math.sin((2 * Math.PI * i * k) / size);
      }
      expect(levels[k]).toBeCloseTo(20 * Math.log10((4 * Math.hypot(re, im)) / size), 3);
    }
  });

  it("gives a sine its level, and refuses what is no power of two", () => {
    const levels = new Spectrum(1024).levels(Float32Array.from({ length: 1024 }, (_, i) => 0.1 * Math.sin((2 * Math.PI * 100 * i) / 1024)));
    expect(levels[100]).toBeCloseTo(-20, 3);
    expect(levels[200]).toBeLessThan(-100);
    expect(() => new Spectrum(1000)).toThrow("got 1000 samples, expected a power of two");
  });
});

describe("keys", () => {
  const press = (keys: string[]): unknown[] => {
    const board = new Keys();
    return keys.map((key) => board.press({ key: key.replace("Shift+", ""), shiftKey: key.startsWith("Shift+") }));
  };

  it.each([
    [[" "], { do: "play" }],
    [["ArrowLeft"], { do: "seek", seconds: -5 }],
    [["Shift+ArrowRight"], { do: "seek", seconds: 1 }],
    [["["], { do: "loopStart" }],
    [["m", "2"], { do: "mute", stem: 1 }],
    [["s", "1"], { do: "solo", stem: 0 }],
    [["m", "Shift", "3"], { do: "mute", stem: 2 }],
    [["m", "x", "2"], null],
    [["2"], null],
    [["constructor"], null],
  ])("%j", (keys, expected) => expect(press(keys).at(-1)).toEqual(expected));
});

describe("presets", () => {
  const levels = (name: string, stems: string[], focus = "bass"): number[] => {
    const preset = presets(stems, focus).find((one) => one.name === name)!;
    return gains(stems.map((stem) => preset.fader(stem)), true);
  };
  const stems = ["vocals", "drums", "bass"];

  it("set what they say", () => {
    expect(levels("Karaoke", stems)).toEqual([0, 1, 1]);
    expect(levels("A cappella", stems)).toEqual([1, 0, 0]);
    expect(levels("Practice", stems)).toEqual([1, 1, 0]);
    expect(levels("Practice", stems, "drums")).toEqual([1, 0, 1]);
    expect(levels("Guide voice", stems)[0]).toBeCloseTo(0.126, 3);
    expect(FLOOR).toBeLessThan(-18);
  });

  it("leave the voice out where there is none", () => expect(presets(["drums", "bass"], "bass").map(({ name }) => name)).toEqual(["Full song", "Practice"]));
});
