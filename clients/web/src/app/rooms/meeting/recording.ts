// A recording as a source of one channel: kept in sixteen bits, as it goes up, and let go of when all of it has gone.

import { pack } from "../../../client/codec";
import type { Block, Source } from "../../../client/source";

const BLOCK = 4096; // samples a message: 85 ms of 48 kHz

export class Recording implements Source {
  readonly live = false;
  readonly channels = 1;
  readonly waiting = 0;
  readonly length: number;
  onblock = (): void => {};
  private samples: Int16Array;
  private at = 0;

  /** One plane or two, which are averaged. */
  constructor(planes: readonly Float32Array[]) {
    const [left, right = left] = planes;
    this.length = left.length;
    this.samples = new Int16Array(left.length);
    for (let at = 0; at < left.length; at += BLOCK) {
      const [a, b] = [left, right].map((plane) => plane.subarray(at, at + BLOCK));
      this.samples.set(new Int16Array(pack([a.map((sample, i) => (sample + b[i]) / 2)], "s16le")), at);
    }
  }

  take(): Block | null {
    const piece = this.samples.subarray(this.at, this.at + BLOCK);
    this.at += piece.length;
    return piece.length > 0 ? { planes: [Float32Array.from(piece, (sample) => sample / 32768)], time: null } : null;
  }

  setPaused(): void {}

  close(): void {
    this.samples = new Int16Array(0);
  }
}
