// What passes between song-player.ts (the page's thread) and song-processor.ts (the audio thread).

import type { Phase, Policy } from "./mixer";
import type { RingMemory } from "./ring";

/** Tempo as a factor, key in semitones. */
export interface Stretch {
  rate: number;
  semitones: number;
}

export interface SongOptions {
  stems: number;
  channels: number; // of each stem
  policy: Policy;
}

export type ToSong =
  /** What played so far fades into what comes from tape index `origin` on. */
  | { type: "open"; origin: number; memory: RingMemory | null; capacity: number; stretch: Stretch }
  | { type: "stems"; start: number; planes: Float32Array[] }
  | { type: "gains"; gains: number[] }
  | { type: "pause"; paused: boolean }
  | { type: "stretch"; stretch: Stretch }
  | { type: "end"; at: number }
  | { type: "quit" };

export interface SongReport {
  opened: number; // how often there was an `open`: a report of what played before one is out of date
  phase: Phase;
  position: number; // tape index of the next sample to be heard
  time: number; // of the context, when that was so
  buffered: number; // samples
  target: number;
  underruns: number;
  peaks: Float32Array; // a stem, before its gain, since the last report
}
