// The stems of a song, as they came: 16 bits a sample, as on the wire, in blocks of a second that are made when they are
// needed and let go of far behind the playhead. Parts that were separated on their own meet in a cross-fade of JOIN samples:
// the stems of each sum to the song, and so does every blend of two.

import { type Interval, Intervals } from "./song-intervals";

export const JOIN = 480; // samples: 10 ms at 48 kHz
const BLOCK = 1 << 15; // samples: 0.7 s at 48 kHz

export class Cache {
  readonly held = new Intervals();
  onadd: (start: number, planes: readonly Float32Array[]) => void = () => {};
  private readonly blocks = new Map<number, Int16Array[]>();

  /** `length`: samples of the song; `planes`: stems times channels. */
  constructor(readonly length: number, readonly planes: number) {}

  /** What `length` samples take. */
  static bytes(planes: number, length: number): number {
    return 2 * planes * length;
  }

  /** What is taken now. */
  get bytes(): number {
    return Cache.bytes(this.planes, BLOCK * this.blocks.size);
  }

  get complete(): boolean {
    return this.held.hole(0, this.length) === null;
  }

  /**
   * Put `[planes][T]` at `start`. What is here already stays, but for JOIN samples at both ends of what is new, where the one
   * fades into the other: give at least so much more on both sides. Samples beyond the song are left out.
   */
  write(start: number, planes: readonly Float32Array[]): void {
    if (planes.length !== this.planes) throw new Error(`got ${planes.length} planes, this song has ${this.planes}`);
    const end = Math.min(this.length, start + planes[0].length);
    let hole = this.held.hole(start, end);
    while (hole !== null) {
      this.fill(hole, start, end, planes);
      hole = this.held.hole(hole.end, end);
    }
  }

  private fill(hole: Interval, start: number, end: number, planes: readonly Float32Array[]): void {
    const [from, to] = [Math.max(start, hole.start - JOIN), Math.min(end, hole.end + JOIN)];
    const [head, tail] = [hole.start - from, to - hole.end];
    for (let at = from; at < to; ) {
      const block = this.block(at);
      const stop = Math.min(to, (Math.floor(at / BLOCK) + 1) * BLOCK);
      for (let i = at; i < stop; i += 1) {
        // The share of what is new: rises before the hole, falls behind it.
        const fresh = i < hole.start ? (i - from + 1) / (head + 1) : i < hole.end ? 1 : (to - i) / (tail + 1);
        const cell = i & (BLOCK - 1);
        for (let p = 0; p < this.planes; p += 1) {
          const value = Math.max(-32768, Math.min(32767, 32768 * planes[p][i - start]));
          block[p][cell] = fresh === 1 ? Math.round(value) : Math.round(fresh * value + (1 - fresh) * block[p][cell]);
        }
      }
      at = stop;
    }
    this.held.add(hole.start, hole.end);
    this.onadd(hole.start, planes.map((plane) => plane.subarray(hole.start - start, hole.end - start)));
  }

  private block(at: number): Int16Array[] {
    const index = Math.floor(at / BLOCK);
    const known = this.blocks.get(index);
    if (known) return known;
    const made = Array.from({ length: this.planes }, () => new Int16Array(BLOCK));
    this.blocks.set(index, made);
    return made;
  }

  /** Copy `frames` samples from `from` on into the planes of `into`, from their index `at` on; what is not here is silence. */
  read(from: number, frames: number, into: readonly Float32Array[], at = 0): void {
    for (let done = 0; done < frames; ) {
      const cell = (from + done) & (BLOCK - 1);
      const count = Math.min(frames - done, BLOCK - cell);
      const block = this.blocks.get(Math.floor((from + done) / BLOCK));
      into.forEach((plane, p) => {
        const cells = block?.[p];
        for (let i = 0; i < count; i += 1) plane[at + done + i] = cells ? cells[cell + i] / 32768 : 0;
      });
      done += count;
    }
  }

  /** Lets go of whole blocks outside [from, to). */
  keep(from: number, to: number): void {
    for (const index of this.blocks.keys()) {
      const [start, end] = [index * BLOCK, (index + 1) * BLOCK];
      if (end > from && start < to) continue;
      this.blocks.delete(index);
      this.held.remove(start, end);
    }
  }
}
