// Where audio comes from: a file that can be read ahead, or a microphone that cannot.

export interface Block {
  planes: Float32Array[]; // one a channel, the same length
  time: number | null; // AudioContext time of the capture of its first sample; null for a file
}

export interface Source {
  readonly live: boolean;
  /** Live: dated by another clock than the one that plays; the store is then steered (drift.ts). */
  readonly foreign?: boolean;
  readonly channels: number;
  readonly length: number; // samples; Infinity when live
  /** The next block, or null: nothing now (live) or nothing any more (file). */
  take(): Block | null;
  /** Live: samples that have come and were not taken yet. */
  readonly waiting: number;
  /** Live: called when a block has come. */
  onblock: () => void;
  /** Live: while paused nothing is kept. Also empties what was kept so far. */
  setPaused(paused: boolean): void;
  close(): void;
}
