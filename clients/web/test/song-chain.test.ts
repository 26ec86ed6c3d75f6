// The song player's path from the ring to the ear, and tempo and key by measurement: the library's WebAssembly runs here too.

import { beforeAll, describe, expect, it, vi } from "vitest";
import { Mixer, QUANTUM } from "../src/client/mixer";
import { Ring } from "../src/client/ring";
import type { Chain } from "../src/client/song-chain";
import type { Engine } from "../src/client/song-stretch";

const RATE = 48_000;
const POLICY = { target: 1024, step: 512, cap: 4096, slack: Infinity, rate: RATE };
let make: { Chain: typeof Chain; Engine: typeof Engine };

beforeAll(async () => {
  vi.stubGlobal("sampleRate", RATE); // a global of the audio thread
  make = { ...(await import("../src/client/song-chain")), ...(await import("../src/client/song-stretch")) };
});

async function engine(): Promise<Engine> {
  const made = new make.Engine(RATE);
  await vi.waitFor(() => expect(made.ready).toBe(true), 5000);
  return made;
}

/** A mono stem: `sound(i)` from tape index 0 on. */
function desk(length: number, sound: (i: number) => number): Mixer {
  const ring = new Ring(Ring.memory(1, length, false));
  ring.write(0, [Float32Array.from({ length }, (_, i) => sound(i))]);
  const mixer = new Mixer(ring, 1, 1, POLICY);
  mixer.setEnd(length);
  return mixer;
}

function play(chain: Chain, samples: number): { sound: Float32Array; places: number[] } {
  const sound = new Float32Array(samples);
  const places: number[] = [];
  const right = new Float32Array(QUANTUM);
  for (let at = 0; at + QUANTUM <= samples; at += QUANTUM) {
    chain.process(sound.subarray(at, at + QUANTUM), right);
    places.push(chain.position);
  }
  return { sound, places };
}

/** Hz, by the zero crossings upwards of the second half. */
function pitch(sound: Float32Array): number {
  const half = sound.subarray(sound.length / 2);
  const crossings = [...half.keys()].slice(1).filter((i) => half[i - 1] < 0 && half[i] >= 0);
  const exact = (i: number): number => i - half[i] / (half[i] - half[i - 1]);
  return (RATE * (crossings.length - 1)) / (exact(crossings[crossings.length - 1]) - exact(crossings[0]));
}

const rms = (sound: Float32Array): number => Math.sqrt(sound.reduce((sum, x) => sum + x * x, 0) / sound.length);
const sine = (hertz: number) => (i: number): number => 0.5 * Math.sin((2 * Math.PI * hertz * i) / RATE);
const PLAIN = { rate: 1, semitones: 0 };

it("without an engine nothing is changed, and what is heard is what the mixer took", () => {
  const mixer = desk(48_000, sine(440));
  const { sound, places } = play(new make.Chain(mixer, null, PLAIN), 24_064);
  expect(Math.max(...sound.slice(1000).map((x, i) => Math.abs(x - sine(440)(1000 + i))))).toBeLessThan(1e-6);
  expect(places.at(-1)).toBe(24_064);
});

it("leaves in a ramp of 5 ms, whatever plays", () => {
  const chain = new make.Chain(desk(48_000, () => 0.5), null, PLAIN);
  play(chain, 2560);
  chain.leave();
  const { sound } = play(chain, 384);
  expect([sound[0], sound[128], sound[256], chain.gone]).toEqual([0.5, 0.25, 0, true]);
  expect(Math.max(...sound.slice(1).map((x, i) => Math.abs(x - sound[i])))).toBeLessThan(0.5 / 255);
});

describe.each([
  [0.5, 0], [0.75, 0], [0.9, 0], [1.25, 0], [1.5, 0], [1, 3], [1, -5], [0.8, 2], [1.2, -2],
])("tempo %f, key %i", (rate, semitones) => {
  it("plays a tone at that pitch, as loud as it was", async () => {
    const chain = new make.Chain(desk(300_000, sine(440)), await engine(), { rate, semitones });
    const { sound } = play(chain, 96_000);
    const cents = 1200 * Math.log2(pitch(sound) / (440 * 2 ** (semitones / 12)));
    expect(Math.abs(cents)).toBeLessThan(6); // nobody hears less
    expect(20 * Math.log10(rms(sound.subarray(48_000)) / (0.5 * Math.SQRT1_2))).toBeCloseTo(0, 0);
  });

  it("goes through the song at that tempo, and says where it is", async () => {
    // Bursts of noise, one every half a second of the song.
    const burst = (i: number): number => (i % 24_000 < 2400 ? 0.5 * Math.sin(i * i) : 0);
    const chain = new make.Chain(desk(300_000, burst), await engine(), { rate, semitones });
    const { sound, places } = play(chain, 144_000);
    expect((places[1100] - places[100]) / (1000 * QUANTUM)).toBeCloseTo(rate, 2);
    const errors: number[] = [];
    for (let beat = 1; beat * 24_000 < Math.min(140_000 * rate, 250_000); beat += 1) {
      // Centre of gravity of what is heard around the burst, against where the chain says that the burst's own is.
      const there = places.findIndex((place) => place >= beat * 24_000 + 1200) * QUANTUM;
      const part = sound.subarray(there - 6000, there + 6000).map((x) => x * x);
      const total = part.reduce((sum, x) => sum + x, 0);
      errors.push(part.reduce((sum, x, i) => sum + x * i, 0) / total - 6000);
    }
    expect(errors.length).toBeGreaterThan(1);
    for (const error of errors) expect(Math.abs(error) / RATE).toBeLessThan(0.02);
  });
});

it("ends when the last sample of the song has been heard, not when it was taken", async () => {
  const chain = new make.Chain(desk(24_000, sine(440)), await engine(), { rate: 0.5, semitones: 0 });
  const { places } = play(chain, 46_080);
  expect([chain.mixer.phase, chain.phase]).toEqual(["ended", "playing"]);
  expect(places.at(-1)).toBeLessThan(24_000);
  play(chain, 8192);
  expect([chain.phase, chain.position]).toEqual(["ended", 24_000]);
});
