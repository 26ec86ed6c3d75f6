// Measured latency: from the instant that a sample was captured (microphone) or handed to the socket (file) to the
// instant that its stems came. Taken at the *first* sample of every chunk: within a chunk that one has waited longest, so
// this is the figure that the declared latency bounds.

interface Anchor {
  index: number; // first sample of a block
  time: number; // seconds
}

const KEEP = 64; // chunks in the statistics

export class Latency {
  private anchors: Anchor[] = [];
  private lags: number[] = [];

  /** `perSample`: seconds between samples of one block; 0 when a block is handed over at one instant. */
  constructor(private readonly perSample: number) {}

  sent(index: number, time: number): void {
    this.anchors.push({ index, time });
  }

  /** Stems from `index` on came at `time`. */
  arrived(index: number, time: number): void {
    const born = this.timeOf(index);
    if (born === null) return;
    this.lags.push(time - born);
    if (this.lags.length > KEEP) this.lags.shift();
  }

  /** When a sample was captured or sent; null when that is forgotten or has not happened. */
  timeOf(index: number): number | null {
    // The newest blocks are asked for most: search from the end.
    const anchor = this.anchors.findLast((candidate) => candidate.index <= index);
    return anchor ? anchor.time + (index - anchor.index) * this.perSample : null;
  }

  /** Samples before `index` will not be asked for again. */
  forget(index: number): void {
    let old = 0;
    while (old + 1 < this.anchors.length && this.anchors[old + 1].index <= index) old += 1;
    this.anchors.splice(0, old);
  }

  /** Seconds, over the last chunks. */
  get median(): number | null {
    const sorted = this.lags.toSorted((a, b) => a - b);
    return sorted.length > 0 ? sorted[sorted.length >> 1] : null;
  }

  get worst(): number | null {
    return this.lags.length > 0 ? Math.max(...this.lags) : null;
  }
}
