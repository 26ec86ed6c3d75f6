// What the player does with a block of audio, free of any browser API so that a test can run it: pull stems from the
// ring, apply gains, sum to stereo. Nothing here ever steps: every change of loudness is a ramp.
//
// One envelope rules starting, stopping, pausing, running dry and skipping. It rises while there is reason to play and
// falls otherwise; samples are consumed only while it is above zero, so nothing is lost by a pause. It begins to fall
// when fewer than FADE samples would be left, so that a stream that runs dry ends in a fade instead of a click.

import type { Sides } from "./pan";
import type { Ring } from "./ring";

export const FADE = 256; // samples: 5 ms at 48 kHz
export const QUANTUM = 128; // of Web Audio
const MOST = QUANTUM + 8; // samples a block: a quantum, and what a resampler behind may take more
const RAMP = 0.01; // s, from any gain to any other
const CALM = 30; // s without an underrun and with more than a step to spare, after which the target comes down by one

export interface Policy {
  target: number; // samples to have before starting
  step: number; // added to the target by each underrun ...
  cap: number; // ... up to here
  slack: number; // live: skip when never fewer than target + slack were in store for a second. A file: Infinity
  rate: number;
}

export type Phase = "filling" | "playing" | "paused" | "ended";

export class Mixer {
  phase: Phase = "filling";
  underruns = 0;
  skipped = 0;
  peaks: Float32Array; // a stem, before its gain, since the last takePeaks
  target: number;
  floor: number; // of the target: what it comes down to
  chunk = 0; // samples: the largest that has come at once, and so the height of the saw-tooth of what is in store
  onsecond: (lowest: number) => void = () => {}; // a second has played, with never fewer samples in store
  private envelope = 0;
  private paused = false;
  private finish = Infinity;
  private pendingSkip = 0;
  private lowest = Infinity;
  private watched = 0;
  private calm = 0; // s
  private spare = Infinity; // the least that was in store while it was calm
  private dry: number | null = null; // samples for which nothing came since an underrun
  private readonly gains: Float32Array; // two a stem: left, right
  private readonly goals: Float32Array;
  private readonly slopes: Float32Array; // a sample
  private readonly scratch: Float32Array[];
  private readonly curve = new Float32Array(MOST);

  constructor(readonly ring: Ring, readonly stems: number, readonly channels: number, readonly policy: Policy) {
    this.target = this.floor = policy.target;
    this.gains = new Float32Array(2 * stems).fill(1);
    this.goals = new Float32Array(2 * stems).fill(1);
    this.slopes = new Float32Array(2 * stems);
    this.peaks = new Float32Array(stems);
    this.scratch = Array.from({ length: stems * channels }, () => new Float32Array(MOST));
  }

  /** One gain a stem, or one a side. */
  setGains(gains: readonly (number | Sides)[]): void {
    gains.forEach((gain, s) => this.goals.set(typeof gain === "number" ? [gain, gain] : gain, 2 * s));
    const ramp = RAMP * this.policy.rate;
    // Full scale in one ramp at the slowest: a small change is not stretched, and a ramp that is caught half-way not either.
    this.slopes.forEach((_, i) => (this.slopes[i] = Math.max(1, Math.abs(this.goals[i] - this.gains[i])) / ramp));
  }

  setPaused(paused: boolean): void {
    this.paused = paused;
    if (!paused && this.phase === "paused") this.phase = "filling";
  }

  /** No sample at or after `end` will come: play to it without waiting for more. */
  setEnd(end: number): void {
    this.finish = end;
  }

  /** Live: so many samples come at once at the most, and so many are to be in store before it plays. */
  expect(chunk: number, target: number): void {
    this.chunk = chunk;
    this.floor = Math.max(this.floor, target);
    this.target = Math.max(this.target, target);
  }

  takePeaks(): Float32Array {
    const peaks = this.peaks;
    this.peaks = new Float32Array(this.stems);
    return peaks;
  }

  /** Fill `left` and `right`, a quantum or a few samples more or less of each. */
  process(left: Float32Array, right: Float32Array): void {
    left.fill(0);
    right.fill(0);
    const block = left.length;
    const available = this.ring.available;
    this.watch(available, block);
    const final = this.ring.writeIndex >= this.finish;
    if (this.phase === "filling" && !this.paused && (available >= this.target || final)) this.phase = "playing";
    const starving = !final && available < block + FADE;
    if (this.dry !== null) this.learn(starving, block);
    const rising = this.phase === "playing" && !this.paused && this.pendingSkip === 0 && !starving;
    const audible = rising ? block : Math.min(block, Math.ceil(this.envelope * FADE));
    const frames = this.phase === "ended" ? 0 : Math.min(available, audible);
    if (frames > 0) this.mix(left, right, frames, rising);
    else this.gains.set(this.goals); // in silence nobody hears a step
    if (final && this.ring.available === 0 && !this.paused) this.phase = "ended";
    else if (!rising && (this.envelope === 0 || frames < audible)) this.silent(starving);
  }

  private silent(starving: boolean): void {
    this.envelope = 0;
    if (this.pendingSkip > 0) {
      this.ring.skip(this.pendingSkip);
      this.skipped += this.pendingSkip;
      this.pendingSkip = 0;
    } else if (this.paused) {
      this.phase = "paused";
    } else if (starving && this.phase === "playing") {
      this.underruns += 1;
      this.calm = 0;
      this.spare = Infinity;
      this.dry = 0;
      this.phase = "filling";
      this.target = Math.min(this.policy.cap, this.target + this.policy.step);
    }
  }

  private mix(left: Float32Array, right: Float32Array, frames: number, rising: boolean): void {
    this.ring.read(this.scratch, frames);
    for (let i = 0; i < frames; i += 1) {
      this.curve[i] = this.envelope;
      this.envelope = rising ? Math.min(1, this.envelope + 1 / FADE) : Math.max(0, this.envelope - 1 / FADE);
    }
    for (let s = 0; s < this.stems; s += 1) {
      const a = this.scratch[s * this.channels];
      const b = this.scratch[s * this.channels + this.channels - 1]; // a mono stem goes to both sides
      this.add(a, left, frames, 2 * s);
      this.add(b, right, frames, 2 * s + 1);
      let peak = this.peaks[s];
      for (let i = 0; i < frames; i += 1) peak = Math.max(peak, Math.abs(a[i]), Math.abs(b[i]));
      this.peaks[s] = peak;
    }
  }

  private add(from: Float32Array, into: Float32Array, frames: number, knob: number): void {
    const goal = this.goals[knob];
    const slope = this.slopes[knob];
    let gain = this.gains[knob];
    for (let i = 0; i < frames; i += 1) {
      if (gain < goal) gain = Math.min(goal, gain + slope);
      else if (gain > goal) gain = Math.max(goal, gain - slope);
      into[i] += gain * this.curve[i] * from[i];
    }
    this.gains[knob] = gain;
  }

  // Live audio that waits longer than it must (a stalled network that caught up) is late for ever: step over the excess.
  private watch(available: number, block: number): void {
    if (this.phase !== "playing" || this.paused) {
      this.lowest = Infinity;
      this.watched = 0;
      return;
    }
    this.lowest = Math.min(this.lowest, available);
    this.watched += block;
    if (this.watched < this.policy.rate) return;
    this.relax();
    if (this.lowest > this.target + this.policy.slack) this.pendingSkip = this.lowest - this.target;
    else this.onsecond(this.lowest);
    this.lowest = Infinity;
    this.watched = 0;
  }

  // A store that was as much larger would have ridden out the same.
  private learn(starving: boolean, block: number): void {
    if (starving) {
      this.dry! += block;
      return;
    }
    this.target = Math.min(this.policy.cap, this.target + Math.max(0, this.dry! - this.policy.step));
    this.dry = null;
  }

  // What has been needed lately is not given up: it would only run dry again.
  private relax(): void {
    this.calm += 1;
    this.spare = Math.min(this.spare, this.lowest);
    if (this.calm < CALM) return;
    if (this.spare > this.policy.step + FADE + QUANTUM) this.target = Math.max(this.floor, this.target - this.policy.step);
    this.calm = 0;
    this.spare = Infinity;
  }
}
