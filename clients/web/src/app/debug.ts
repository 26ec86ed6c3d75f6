// `window.rivulet`: what tests and developers look at. docs/client-web.md describes it.

import type { Chunk } from "../client/codec";
import type { Page } from "./page";
import { type Recording, Tap } from "./tap";

export interface Debug {
  /** A snapshot of the page and of its open room; times in ms, positions in samples of 48 kHz. */
  state(): Record<string, unknown>;
  /** Record the output that is heard. Needs a context: play or open the microphone first. */
  tap(): Promise<{ stop(): Promise<Recording> }>;
  [more: string]: unknown; // what the open room adds
}

export const debug = (page: Page): Debug => ({
  state: () => page.state,
  tap: () => Tap.open(page.output),
  ...page.room?.debug,
});

/** Stems as they come, for `rivulet.keep()` of a room. Memory: 0.2 MB a second and plane. */
export class Keeper {
  private readonly kept = new Set<Chunk[]>();

  /** A room says what has come, before it gives the planes away. */
  take(chunk: Chunk): void {
    for (const chunks of this.kept) chunks.push({ ...chunk, planes: chunk.planes.map((plane) => plane.slice()) });
  }

  /** Keep every stem that comes from now on; `stop` gives, for each name, its planes. */
  keep(stems: () => readonly string[]): { stop(): Record<string, Float32Array[]> } {
    const chunks: Chunk[] = [];
    this.kept.add(chunks);
    return {
      stop: () => {
        this.kept.delete(chunks);
        const channels = chunks[0]?.channels ?? 1;
        const plane = (at: number): Float32Array => joined(chunks.map((chunk) => chunk.planes[at]));
        const planes = (s: number): Float32Array[] => Array.from({ length: channels }, (_, c) => plane(s * channels + c));
        return Object.fromEntries(stems().map((name, s) => [name, planes(s)]));
      },
    };
  }
}

function joined(parts: Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
