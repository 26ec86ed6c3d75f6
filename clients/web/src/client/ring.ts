// One ring for all stems, addressed by absolute sample index: stems of one instant lie at one index, so they cannot drift
// apart. One writer and one reader, on one thread (plain memory) or on two (SharedArrayBuffer): the same code.
//
// The two counters are the low 32 bits of `write` and `read`. The capacity is a power of two, so a counter that wraps
// still points at the right cell, and a difference of two counters is right as a signed 32-bit number as long as it is
// under 2^31 samples (12 hours of 48 kHz).

const WRITE = 0;
const READ = 1;

export interface RingMemory {
  counters: Int32Array;
  planes: Float32Array[];
}

/** The absolute index near `near` whose low 32 bits are `low`. */
export const unwrap = (low: number, near: number): number => near + ((low - (near | 0)) | 0);

const powerOfTwo = (least: number): number => 2 ** Math.ceil(Math.log2(Math.max(least, 128)));

export class Ring {
  readonly capacity: number;
  readonly channels: number;
  gaps = 0; // samples that were never written and are read as silence
  private written: number;
  private consumed: number;

  /** `origin` is the absolute index at which both sides begin. */
  constructor(readonly memory: RingMemory, origin = 0) {
    this.capacity = memory.planes[0].length;
    this.channels = memory.planes.length;
    this.written = this.consumed = origin;
  }

  /** Whether threads may share it. WebKitGTK says that the page is isolated, and has no SharedArrayBuffer all the same. */
  static get shareable(): boolean {
    return crossOriginIsolated && typeof SharedArrayBuffer !== "undefined";
  }

  /** Memory for at least `least` samples a channel, shared between threads when `shared`. */
  static memory(channels: number, least: number, shared: boolean, origin = 0): RingMemory {
    const capacity = powerOfTwo(least);
    const Buffer = shared ? SharedArrayBuffer : ArrayBuffer;
    const counters = new Int32Array(new Buffer(8));
    counters.fill(origin | 0);
    return { counters, planes: Array.from({ length: channels }, () => new Float32Array(new Buffer(capacity * 4))) };
  }

  get writeIndex(): number {
    return (this.written = unwrap(Atomics.load(this.memory.counters, WRITE), this.written));
  }

  get readIndex(): number {
    return (this.consumed = unwrap(Atomics.load(this.memory.counters, READ), this.consumed));
  }

  get available(): number {
    return this.writeIndex - this.readIndex;
  }

  /**
   * Writer: put samples at `start`. What lies before the write index is dropped (it may be playing already), a gap
   * is silence, and when the reader is too far behind (a suspended context), the oldest samples are lost: the newest matter.
   */
  write(start: number, planes: readonly Float32Array[]): void {
    const end = start + planes[0].length;
    const from = this.writeIndex;
    if (end <= from) return;
    this.makeRoom(end);
    const gap = Math.max(0, start - from);
    this.gaps += gap;
    this.memory.planes.forEach((cells, c) => {
      for (let i = Math.max(from, end - this.capacity); i < start; i += 1) cells[i & (this.capacity - 1)] = 0;
      this.place(cells, planes[c], start, Math.max(start, from, end - this.capacity));
    });
    Atomics.store(this.memory.counters, WRITE, end | 0);
  }

  /** Reader: copy `frames` (at most `available`) into the head of each plane of `into` and consume them. */
  read(into: readonly Float32Array[], frames: number): void {
    const from = this.readIndex;
    const at = from & (this.capacity - 1);
    const first = Math.min(frames, this.capacity - at);
    this.memory.planes.forEach((cells, c) => {
      for (let i = 0; i < first; i += 1) into[c][i] = cells[at + i];
      for (let i = first; i < frames; i += 1) into[c][i] = cells[i - first];
    });
    this.advance(from, frames);
  }

  /** Reader: consume without copying. */
  skip(frames: number): void {
    this.advance(this.readIndex, Math.min(frames, this.available));
  }

  // A failed exchange means that the writer lapped the reader and moved it on: its word stands.
  private advance(from: number, frames: number): void {
    Atomics.compareExchange(this.memory.counters, READ, from | 0, (from + frames) | 0);
  }

  private makeRoom(end: number): void {
    for (let read = this.readIndex; end - read > this.capacity; read = this.readIndex) {
      Atomics.compareExchange(this.memory.counters, READ, read | 0, (end - this.capacity) | 0);
    }
  }

  private place(cells: Float32Array, plane: Float32Array, start: number, from: number): void {
    const at = from & (this.capacity - 1);
    const fresh = plane.subarray(from - start);
    const first = Math.min(fresh.length, this.capacity - at);
    cells.set(fresh.subarray(0, first), at);
    cells.set(fresh.subarray(first), 0);
  }
}
