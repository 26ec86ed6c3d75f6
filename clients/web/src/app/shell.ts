// What a room gets from the page around it, and what the page asks of a room. One room is open at a time.

import type { Failure } from "../client/errors";
import type { Key } from "../client/key";
import type { Model } from "../client/models";
import type { Capacity } from "./capacity";

export type RoomName = "karaoke" | "live" | "meeting";

/** What is always visible, whatever the room; null where there is nothing to tell. Milliseconds and shares. */
export interface Vital {
  declared: number | null; // promised by the server for this session
  measured: number | null; // capture (or sending) to the arrival of stems, median of late
  ear: number | null; // capture to ear, where it is live
  network: string; // "" or what is wrong with it: lost, slow, being made again
  compute: number | null; // share of its time that the server's model takes for this session
}

/** 48 kHz, asked of the context and so of every session: one clock from the microphone to the ear. */
export const RATE = 48_000;

export interface Shell {
  readonly models: readonly Model[]; // empty until they are known; `onmodels` is called when they are
  readonly key: Key;
  readonly base: URL; // of the server: /v1/... is resolved against it
  readonly capacity: Capacity | null; // of the server, a few seconds old; null until it is known
  /** The page's one AudioContext, running; call it from a click. */
  wake(): Promise<AudioContext>;
  /** Where a room's sound goes: the chosen output device is behind it. After `wake`. */
  readonly output: AudioNode;
  /** Device of the output, "" for the default one; rejects where the browser cannot. */
  setOutputDevice(id: string): Promise<void>;
  vital(now: Partial<Vital>): void;
  fail(failure: Failure | null): void; // shown until null, or the next attempt
  notice(text: string): void; // "" takes it away
}

export interface Room {
  onmodels(): void;
  /** Everything stops and is let go of: the session, the microphone, timers. The elements are removed by the page. */
  leave(): void;
  /** For `window.rivulet.state()`: plain values. */
  state(): Record<string, unknown>;
  /** Functions that join `window.rivulet` while the room is open, such as `keep` and `mark`. */
  readonly debug?: Record<string, unknown>;
}

/** `host` is empty and belongs to the room until `leave`. */
export type Open = (host: HTMLElement, shell: Shell) => Room;
