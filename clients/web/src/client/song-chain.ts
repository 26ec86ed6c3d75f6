// One uninterrupted stretch of tape on its way to the ear: a ring, a mixer and, where tempo or key are changed, an engine. The
// engine holds sound back, so that what is heard is not what the mixer takes: the trail remembers which was which.

import { FADE, type Mixer, type Phase, QUANTUM } from "./mixer";
import type { Engine } from "./song-stretch";
import type { Stretch } from "./song-messages";

const TRAIL = 512; // entries, of a quantum at most each

/** Which tape index the mixer stood at when it had given so many samples. */
class Trail {
  private readonly given = new Float64Array(TRAIL);
  private readonly index = new Float64Array(TRAIL);
  private newest = 0;

  constructor(origin: number) {
    this.index.fill(origin);
  }

  push(given: number, index: number): void {
    this.newest = (this.newest + 1) % TRAIL;
    this.given[this.newest] = given;
    this.index[this.newest] = index;
  }

  at(given: number): number {
    let entry = this.newest;
    for (let back = 0; back < TRAIL - 1 && this.given[entry] > given; back += 1) entry = (entry + TRAIL - 1) % TRAIL;
    return this.index[entry];
  }
}

export class Chain {
  gone = false; // after `leave`, when nothing is heard of it any more
  private readonly trail: Trail;
  private given = 0; // samples that the mixer has given
  private held = 0; // of those, what the engine holds
  private owed = 0; // a part of a sample that the tempo still asks for
  private primed = false;
  private leaving = FADE;
  private left = false;
  private readonly planes: readonly Float32Array[];

  constructor(readonly mixer: Mixer, private readonly engine: Engine | null, private stretch: Stretch) {
    this.trail = new Trail(mixer.ring.readIndex);
    this.planes = [0, 1].map(() => new Float32Array(4 * QUANTUM));
  }

  setStretch(stretch: Stretch): void {
    this.stretch = stretch;
    if (this.primed) this.engine?.setKey(stretch.semitones);
  }

  /** Fades out, whatever happens. */
  leave(): void {
    this.left = true;
  }

  /** The tape index of the next sample to be heard. */
  get position(): number {
    return this.engine === null ? this.mixer.ring.readIndex : this.trail.at(this.given - this.held);
  }

  get phase(): Phase {
    const { phase, ring } = this.mixer;
    return phase === "ended" && this.position < ring.readIndex ? "playing" : phase;
  }

  /** Fill one quantum. */
  process(left: Float32Array, right: Float32Array): void {
    if (this.engine === null) this.mixer.process(left, right);
    else if (this.engine.ready) this.stretched(this.engine, left, right);
    if (this.left) this.fade(left, right);
  }

  private stretched(engine: Engine, left: Float32Array, right: Float32Array): void {
    if (!this.primed) this.prime(engine);
    this.owed += left.length * this.stretch.rate;
    const frames = Math.floor(this.owed);
    this.owed -= frames;
    engine.process(this.pull(frames), [left, right]);
  }

  // Everything that the engine needs before the first sample is there at once: a tape is read as fast as one likes.
  private prime(engine: Engine): void {
    this.primed = true;
    engine.reset();
    engine.setKey(this.stretch.semitones);
    const tail = Math.round(engine.tail * this.stretch.rate);
    this.held = engine.lead + tail;
    engine.seek(this.pull(engine.lead), this.stretch.rate);
    const [into, out] = [engine.most, engine.tail];
    for (let done = 0, spent = 0; done < out; ) {
      const count = Math.min(out - done, Math.floor(into / 2));
      done += count;
      const frames = Math.round((tail * done) / out) - spent;
      spent += frames;
      engine.process(this.pull(frames), [0, 1].map(() => new Float32Array(count)));
    }
  }

  private pull(frames: number): Float32Array[] {
    const fits = frames <= this.planes[0].length;
    const planes = this.planes.map((plane) => (fits ? plane.subarray(0, frames) : new Float32Array(frames)));
    for (let at = 0; at < frames; at += QUANTUM) {
      const [a, b] = planes.map((plane) => plane.subarray(at, Math.min(frames, at + QUANTUM)));
      this.mixer.process(a, b);
      this.given += a.length;
      this.trail.push(this.given, this.mixer.ring.readIndex);
    }
    return planes;
  }

  private fade(left: Float32Array, right: Float32Array): void {
    for (let i = 0; i < left.length; i += 1) {
      const loud = this.leaving / FADE;
      left[i] *= loud;
      right[i] *= loud;
      this.leaving = Math.max(0, this.leaving - 1);
    }
    this.gone = this.leaving === 0;
  }
}
