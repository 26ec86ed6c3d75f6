// Two clocks: sound that was captured by another clock than the one that plays it comes a little too fast or too slow, tens of
// millionths, and fills or empties any store in the end. So it is played a little faster or slower: the store's low water is
// held where the player wants it. Resampled is the stereo sum, behind the mixer: the stems cannot drift against each other.
//
// The store is an integrator: after t seconds at a rate off by d it has changed by d * t. A proportional and an integral part
// hold it (time constants of 20 and 60 s: damping 0.87, no error left), with the rate within 0.2 %, a thirtieth of a semitone.

import { type Mixer, QUANTUM } from "./mixer";

const TAPS = 32;
const PHASES = 512; // linear between them: -107 dB
const BETA = 9; // Kaiser: images below -90 dB from 0.82 of half the rate down
const MOST = 0.002;
const PROPORTIONAL = 20; // s
const INTEGRAL = 60; // s
const SMOOTH = 4; // s

export class Drift {
  /** Samples taken from the store for each that is played. */
  ratio = 1;
  private wanted = 1;
  private sum = 0;
  private excess: number | null = null; // s, smoothed: chunks and quanta beat against each other
  private phase = 0;
  private readonly table = kernels();
  private readonly past = [0, 1].map(() => new Float32Array(TAPS + QUANTUM + 8)); // the head of it: the last TAPS samples

  constructor(private readonly mixer: Mixer) {
    mixer.onsecond = (lowest) => this.steer(lowest);
  }

  /** Fill one quantum of `left` and `right`, 17 samples late. */
  process(left: Float32Array, right: Float32Array): void {
    this.ratio += ((this.wanted - this.ratio) * left.length) / this.mixer.policy.rate; // in a second, not at once
    const frames = Math.floor(this.phase + left.length * this.ratio);
    this.mixer.process(this.fresh(0, frames), this.fresh(1, frames));
    this.resample(left, right);
    for (const past of this.past) past.copyWithin(0, frames, frames + TAPS);
    this.phase += left.length * this.ratio - frames;
  }

  private fresh(side: number, frames: number): Float32Array {
    return this.past[side].subarray(TAPS, TAPS + frames);
  }

  private resample(left: Float32Array, right: Float32Array): void {
    const { table } = this;
    const [a, b] = this.past;
    for (let i = 0; i < left.length; i += 1) {
      const at = this.phase + i * this.ratio;
      const base = Math.floor(at);
      const fine = (at - base) * PHASES;
      const row = Math.floor(fine);
      const weight = fine - row;
      let [one, other] = [0, 0];
      for (let k = 0, low = row * TAPS, high = low + TAPS; k < TAPS; k += 1, low += 1, high += 1) {
        const tap = table[low] + weight * (table[high] - table[low]);
        one += a[base + k] * tap;
        other += b[base + k] * tap;
      }
      left[i] = one;
      right[i] = other;
    }
  }

  /** Once a second: `lowest` is the least that was in store, which should be what is kept beyond one chunk. */
  private steer(lowest: number): void {
    const { target, chunk, policy } = this.mixer;
    const now = (lowest - Math.max(0, target - chunk)) / policy.rate;
    const excess = (this.excess = (this.excess ?? now) + (now - (this.excess ?? now)) / SMOOTH);
    this.sum = within(this.sum + excess / (PROPORTIONAL * INTEGRAL));
    this.wanted = 1 + within(excess / PROPORTIONAL + this.sum);
  }
}

const within = (value: number): number => Math.min(MOST, Math.max(-MOST, value));

/** `[PHASES + 1, TAPS]`: the windowed sinc, moved by row / PHASES of a sample; each row sums to 1. */
function kernels(): Float32Array {
  const table = new Float32Array((PHASES + 1) * TAPS);
  for (let row = 0; row <= PHASES; row += 1) {
    const kernel = Array.from({ length: TAPS }, (_, k) => windowed(k - (TAPS / 2 - 1) - row / PHASES));
    const whole = kernel.reduce((sum, value) => sum + value, 0);
    table.set(kernel.map((value) => value / whole), row * TAPS);
  }
  return table;
}

function windowed(x: number): number {
  const inside = 1 - ((2 * x) / TAPS) ** 2;
  const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
  return inside <= 0 ? 0 : (sinc * bessel(BETA * Math.sqrt(inside))) / bessel(BETA);
}

/** Modified Bessel function of the first kind, order 0, by its series. */
function bessel(x: number): number {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k += 1) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}
