// What passes between player.ts (the page's thread) and player-processor.ts (the audio thread).

import type { Phase, Policy } from "./mixer";
import type { RingMemory } from "./ring";

export interface PlayerOptions {
  stems: number;
  channels: number; // of each stem
  policy: Policy;
  shared: RingMemory | null; // null: no SharedArrayBuffer here, stems come as messages
  capacity: number;
}

export type ToPlayer =
  | { type: "stems"; start: number; planes: Float32Array[] }
  | { type: "gains"; gains: number[] }
  | { type: "pause"; paused: boolean }
  | { type: "target"; frames: number }
  | { type: "end"; at: number }
  | { type: "quit" };

export interface Report {
  phase: Phase;
  position: number; // the next sample to be played
  buffered: number; // samples
  target: number;
  underruns: number;
  skipped: number; // samples
  gaps: number; // samples
  peaks: Float32Array; // a stem, before its gain, since the last report
}
