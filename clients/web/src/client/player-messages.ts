// What passes between player.ts (the page's thread) and player-processor.ts (the audio thread).

import type { Phase, Policy } from "./mixer";
import type { Sides } from "./pan";
import type { RingMemory } from "./ring";

export interface PlayerOptions {
  stems: number;
  channels: number; // of each stem
  policy: Policy;
  drift: boolean; // whether another clock than the one that plays dates the stems
  shared: RingMemory | null; // null: no SharedArrayBuffer here, stems come as messages
  capacity: number;
}

export type ToPlayer =
  | { type: "stems"; start: number; planes: Float32Array[] }
  | { type: "gains"; gains: readonly (number | Sides)[] }
  | { type: "pause"; paused: boolean }
  | { type: "target"; frames: number; chunk: number }
  | { type: "end"; at: number }
  | { type: "quit" };

export interface Report {
  phase: Phase;
  position: number; // the next sample to be played ...
  time: number; // ... at this time of the AudioContext, in s
  buffered: number; // samples
  target: number;
  underruns: number;
  skipped: number; // samples
  gaps: number; // samples
  ratio: number; // samples taken for each that is played: 1, but for clocks that drift
  peaks: Float32Array; // a stem, before its gain, since the last report
}
