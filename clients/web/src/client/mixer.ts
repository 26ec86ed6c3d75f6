// What the player does with one quantum of audio, free of any browser API so that a test can run it: pull stems from the
// ring, apply gains, sum to stereo. Nothing here ever steps: every change of loudness is a ramp.
//
// One envelope rules starting, stopping, pausing, running dry and skipping. It rises while there is reason to play and
// falls otherwise; samples are consumed only while it is above zero, so nothing is lost by a pause. It begins to fall
// when fewer than FADE samples would be left, so that a stream that runs dry ends in a fade instead of a click.

import type { Ring } from "./ring";

export const FADE = 256; // samples: 5 ms at 48 kHz
export const QUANTUM = 128; // of Web Audio

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
  private envelope = 0;
  private paused = false;
  private finish = Infinity;
  private pendingSkip = 0;
  private lowest = Infinity;
  private watched = 0;
  private readonly gains: Float32Array;
  private readonly goals: Float32Array;
  private readonly scratch: Float32Array[];
  private readonly curve = new Float32Array(QUANTUM);
  private readonly slope: number;

  constructor(readonly ring: Ring, readonly stems: number, readonly channels: number, readonly policy: Policy) {
    this.target = policy.target;
    this.gains = new Float32Array(stems).fill(1);
    this.goals = new Float32Array(stems).fill(1);
    this.peaks = new Float32Array(stems);
    this.scratch = Array.from({ length: stems * channels }, () => new Float32Array(QUANTUM));
    this.slope = 1 / (0.01 * policy.rate); // full scale in 10 ms
  }

  setGains(gains: readonly number[]): void {
    this.goals.set(gains);
  }

  setPaused(paused: boolean): void {
    this.paused = paused;
    if (!paused && this.phase === "paused") this.phase = "filling";
  }

  /** No sample at or after `end` will come: play to it without waiting for more. */
  setEnd(end: number): void {
    this.finish = end;
  }

  takePeaks(): Float32Array {
    const peaks = this.peaks;
    this.peaks = new Float32Array(this.stems);
    return peaks;
  }

  /** Fill `left` and `right` (one quantum each). */
  process(left: Float32Array, right: Float32Array): void {
    left.fill(0);
    right.fill(0);
    const available = this.ring.available;
    this.watch(available);
    const final = this.ring.writeIndex >= this.finish;
    if (this.phase === "filling" && !this.paused && (available >= this.target || final)) this.phase = "playing";
    const starving = !final && available < QUANTUM + FADE;
    const rising = this.phase === "playing" && !this.paused && this.pendingSkip === 0 && !starving;
    const audible = rising ? QUANTUM : Math.min(QUANTUM, Math.ceil(this.envelope * FADE));
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
      const goal = this.goals[s];
      let gain = this.gains[s];
      let peak = this.peaks[s];
      for (let i = 0; i < frames; i += 1) {
        if (gain < goal) gain = Math.min(goal, gain + this.slope);
        else if (gain > goal) gain = Math.max(goal, gain - this.slope);
        const loud = gain * this.curve[i];
        left[i] += loud * a[i];
        right[i] += loud * b[i];
        peak = Math.max(peak, Math.abs(a[i]), Math.abs(b[i]));
      }
      this.gains[s] = gain;
      this.peaks[s] = peak;
    }
  }

  // Live audio that waits longer than it must (a stalled network that caught up) is late for ever: step over the excess.
  private watch(available: number): void {
    if (this.phase !== "playing" || this.paused) {
      this.lowest = Infinity;
      this.watched = 0;
      return;
    }
    this.lowest = Math.min(this.lowest, available);
    this.watched += QUANTUM;
    if (this.watched < this.policy.rate) return;
    if (this.lowest > this.target + this.policy.slack) this.pendingSkip = this.lowest - this.target;
    this.lowest = Infinity;
    this.watched = 0;
  }
}
