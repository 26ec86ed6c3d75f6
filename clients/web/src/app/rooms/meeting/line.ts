// What a meeting knows of the session that hears it, whatever carries it and whoever plays it.

import type { Chunk, Ready } from "../../../client/codec";
import type { Failure } from "../../../client/errors";
import type { Timeline } from "../../../client/turns";

/** ms; null where there is nothing to tell. */
export interface Figures {
  arrival: number | null;
  worst: number | null;
  ear: number | null;
  turn: number | null; // from a sample's capture to knowing who spoke it
}

export interface LineEvents {
  ready(ready: Ready): void; // once
  stems(chunk: Chunk): void; // over a WebSocket
  speakers(timeline: Timeline): void;
  moved(): void; // the playhead, the levels, what is here
  notice(text: string): void;
  away(away: boolean): void; // the connection is lost, or made again
  done(): void; // all that was sent has come back
  failed(failure: Failure): void; // nothing more will come
}

export interface Line {
  readonly ready: Ready | null;
  readonly told: number; // samples
  readonly sent: number;
  readonly position: number; // that is heard, or known where nothing is played
  readonly figures: Figures;
  readonly peaks: readonly number[] | null; // of the tracks, while they are played
  setGains(gains: readonly number[]): void;
  setPaused(paused: boolean): void;
  mark(): Promise<number>;
  /** No more is sent; the rest comes, and `done`. */
  end(): void;
  close(): void;
}
