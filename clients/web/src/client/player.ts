// The page's half of the player: one AudioWorkletNode with all stems, so that there is one clock and nothing to drift.
// With cross-origin isolation the stems go through shared memory; without it (an embedding page that cannot send the two
// headers) they are transferred as messages. Same ring, same mixer, a little more latency.

import type { Chunk, Ready } from "./codec";
import type { Policy } from "./mixer";
import type { Sides } from "./pan";
import type { PlayerOptions, Report, ToPlayer } from "./player-messages";
import url from "./player-processor.ts?worker&url";
import { Ring } from "./ring";

const MARGIN = 0.04; // seconds of live audio kept beyond one chunk, for the jitter of network and main thread

/** A song may wait for a cushion; a microphone may not. Both learn from underruns. */
export function policy(live: boolean, rate: number): Policy {
  const seconds = (value: number): number => Math.round(value * rate);
  return live
    ? { target: seconds(0.06), step: seconds(0.02), cap: seconds(0.5), slack: seconds(0.04), rate }
    : { target: seconds(0.4), step: seconds(0.4), cap: seconds(4), slack: Infinity, rate };
}

export class Player {
  onreport: (report: Report) => void = () => {};
  private readonly ring: Ring | null;
  private largest = 0;

  private constructor(
    private readonly node: AudioWorkletNode,
    options: PlayerOptions,
    private readonly live: boolean,
  ) {
    this.ring = options.shared ? new Ring(options.shared) : null;
    node.port.onmessage = (event: MessageEvent<Report>) => this.onreport(event.data);
  }

  /** `store`: the most samples that can be ahead of the playhead. `drift`: whether another clock dated what comes. */
  static async open(context: BaseAudioContext, ready: Ready, live: boolean, store: number, drift = false): Promise<Player> {
    await context.audioWorklet.addModule(url);
    const stems = ready.stems.length;
    const options: PlayerOptions = {
      stems,
      channels: ready.channels,
      policy: policy(live, ready.rate),
      drift,
      shared: Ring.shareable ? Ring.memory(stems * ready.channels, store, true) : null,
      capacity: store,
    };
    const node = new AudioWorkletNode(context, "rivulet-player", {
      numberOfInputs: 0,
      outputChannelCount: [2],
      processorOptions: options,
    });
    return new Player(node, options, live);
  }

  get output(): AudioNode {
    return this.node;
  }

  write(chunk: Chunk): void {
    if (this.live && chunk.frames > this.largest) {
      // The store of live audio is a saw-tooth as high as one chunk: below that it runs dry between any two.
      this.largest = chunk.frames;
      const frames = chunk.frames + Math.round(MARGIN * this.node.context.sampleRate);
      this.tell({ type: "target", frames, chunk: chunk.frames });
    }
    if (this.ring) this.ring.write(chunk.start, chunk.planes);
    else this.tell({ type: "stems", start: chunk.start, planes: chunk.planes }, chunk.planes.map((p) => p.buffer));
  }

  /** One gain a stem, or one a side of each. */
  setGains(gains: readonly (number | Sides)[]): void {
    this.tell({ type: "gains", gains });
  }

  setPaused(paused: boolean): void {
    this.tell({ type: "pause", paused });
  }

  setEnd(at: number): void {
    this.tell({ type: "end", at });
  }

  /** Fade out, then go. */
  close(): void {
    this.tell({ type: "quit" });
    this.node.port.onmessage = null;
    setTimeout(() => this.node.disconnect(), 200);
  }

  private tell(message: ToPlayer, transfer: Transferable[] = []): void {
    this.node.port.postMessage(message, transfer);
  }
}
