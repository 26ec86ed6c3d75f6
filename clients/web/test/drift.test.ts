import { describe, expect, it, vi } from "vitest";
import { Drift } from "../src/client/drift";
import { Mixer, QUANTUM } from "../src/client/mixer";
import { Ring } from "../src/client/ring";

const RATE = 48_000;
vi.setConfig({ testTimeout: 30_000 }); // minutes of sound, on a machine that may be busy

/** A tone that is written in chunks by a clock that runs `off` too fast, and played by one that is right. */
function run(off: number, seconds: number, { chunk = 1024, hertz = 0, jitter = 0 } = {}) {
  const ring = new Ring(Ring.memory(1, 1 << 16, false));
  const target = chunk + 1920;
  const mixer = new Mixer(ring, 1, 1, { target, step: 960, cap: 24_000, slack: 1920, rate: RATE });
  mixer.expect(chunk, target);
  const drift = new Drift(mixer);
  const [left, right] = [new Float32Array(QUANTUM), new Float32Array(QUANTUM)];
  const out: number[] = [];
  const low: number[] = [];
  const ratios: number[] = [];
  let lowest = Infinity;
  let random = 1;
  for (let now = 0, due = 0; now < seconds * RATE; now += QUANTUM) {
    while (due <= now) {
      const from = ring.writeIndex;
      const wave = new Float32Array(chunk);
      if (hertz > 0 && now > (seconds - 2) * RATE) wave.forEach((_, i) => (wave[i] = 0.5 * Math.sin((2 * Math.PI * hertz * (from + i)) / RATE)));
      ring.write(from, [wave]);
      random = (random * 48271) % 2147483647;
      due = (ring.writeIndex / (1 + off)) + jitter * (random / 2147483647);
    }
    drift.process(left, right);
    if (now > (seconds - 1) * RATE) out.push(...left);
    lowest = Math.min(lowest, ring.available);
    if (now % RATE < QUANTUM) {
      low.push(lowest);
      ratios.push(drift.ratio);
      lowest = Infinity;
    }
  }
  return { mixer, ratios, out, low };
}

/** dB of what is not one tone near `hertz`: least squares, over a frequency that is searched ever more finely. */
function impurity(samples: readonly number[], hertz: number): number {
  const rest = (tone: number): number => {
    const turn = (2 * Math.PI * tone) / RATE;
    let [cc, ss, cs, xc, xs, xx] = [0, 0, 0, 0, 0, 0];
    samples.forEach((x, i) => {
      const [c, s] = [Math.cos(turn * i), Math.sin(turn * i)];
      [cc, ss, cs] = [cc + c * c, ss + s * s, cs + c * s];
      [xc, xs, xx] = [xc + x * c, xs + x * s, xx + x * x];
    });
    const det = cc * ss - cs * cs;
    return (xx - (xc * (xc * ss - xs * cs) + xs * (xs * cc - xc * cs)) / det) / xx;
  };
  let best = hertz;
  for (let width = 4e-4 * hertz; width > 1e-9 * hertz; width /= 4) {
    const among = Array.from({ length: 17 }, (_, i) => best + ((i - 8) / 8) * width);
    best = among.reduce((a, b) => (rest(b) < rest(a) ? b : a));
  }
  return 10 * Math.log10(Math.max(rest(best), 1e-12));
}

describe("two clocks", () => {
  it.each([200e-6, -200e-6])("that differ by %f: the store stays where it is wanted, and nothing is skipped or runs dry", (off) => {
    const { mixer, ratios, low } = run(off, 180);
    expect([mixer.underruns, mixer.skipped]).toEqual([0, 0]);
    const mean = ratios.slice(-60).reduce((sum, one) => sum + one, 0) / 60;
    expect(Math.abs(mean - 1 - off)).toBeLessThan(30e-6);
    const late = low.slice(-60).map((one) => Math.abs(one - 1920));
    expect(Math.max(...late)).toBeLessThan(0.005 * RATE); // without the steering it would be 36 ms
  });

  it("without steering, the same drift runs dry or is skipped (what the test above would see)", () => {
    const ring = new Ring(Ring.memory(1, 1 << 16, false));
    const mixer = new Mixer(ring, 1, 1, { target: 2944, step: 960, cap: 24_000, slack: 1920, rate: RATE });
    const [left, right] = [new Float32Array(QUANTUM), new Float32Array(QUANTUM)];
    for (let now = 0; now < 400 * RATE; now += QUANTUM) {
      while (ring.writeIndex / (1 - 200e-6) <= now) ring.write(ring.writeIndex, [new Float32Array(1024)]);
      mixer.process(left, right);
    }
    expect(mixer.underruns).toBeGreaterThan(0);
  });

  it("do not spoil a tone", () => {
    for (const hertz of [997, 9001]) {
      const { out } = run(100e-6, 60, { hertz });
      expect(impurity(out.slice(0, 2048), hertz)).toBeLessThan(-80);
    }
  });

  it("change the pitch slowly, and by little, when the network wavers", () => {
    const { mixer, ratios } = run(50e-6, 120, { jitter: 400 });
    expect(mixer.underruns).toBe(0);
    expect(Math.max(...ratios) - Math.min(...ratios)).toBeLessThan(0.001); // 1.7 cents
  });
});

it("the same clock and no steering yet: the samples themselves, 17 late", () => {
  const ring = new Ring(Ring.memory(1, 1 << 14, false));
  const mixer = new Mixer(ring, 1, 1, { target: 128, step: 1, cap: 1000, slack: Infinity, rate: RATE });
  const drift = new Drift(mixer);
  const wave = Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i * i * 0.0001));
  ring.write(0, [wave]);
  mixer.setEnd(4096);
  const out: number[] = [];
  for (let i = 0; i < 20; i += 1) {
    const [left, right] = [new Float32Array(QUANTUM), new Float32Array(QUANTUM)];
    drift.process(left, right);
    out.push(...left);
  }
  for (let i = 512; i < 2000; i += 1) expect(out[i + 17]).toBeCloseTo(wave[i], 6);
});
