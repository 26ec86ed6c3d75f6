// What everybody said, kept to be heard again and taken away. Sixteen bits, as it came; silence costs nothing, and where
// nobody or somebody else speaks a track is silent, so an hour of one voice at a time is 346 MB, however many there are.

import { type Chunk, pack } from "../../../client/codec";

export const BLOCK = 12_000; // samples: 0.25 s of 48 kHz
const BYTES = 2 * BLOCK;
export const LIMIT = 600e6; // bytes: about 100 minutes in which somebody speaks
const QUIET = new Int16Array(BLOCK); // all the silence there is

type Samples = Int16Array<ArrayBuffer>;

export class Tracks {
  bytes = 0;
  from = 0; // samples before were let go of
  end = 0;
  private readonly blocks: Map<number, Samples>[] = []; // a track, by number; none: silence
  private oldest = 0; // number of a block before which there is none

  constructor(private readonly limit = LIMIT) {}

  get count(): number {
    return this.blocks.length;
  }

  /** The next samples of all tracks, one plane each; those that do not fit push out the oldest. */
  add({ start, frames, planes }: Chunk): void {
    planes.forEach((plane, track) => this.put((this.blocks[track] ??= new Map()), start, plane));
    this.end = start + frames;
    while (this.bytes > this.limit) this.drop();
  }

  /** Samples `[frames]` of one track; silence where there is none. */
  read(track: number, from: number, frames: number): Float32Array<ArrayBuffer> {
    const out = new Float32Array(frames);
    for (const [piece, at] of this.pieces(track, from, from + frames)) piece.forEach((sample, i) => (out[at + i] = sample / 32768));
    return out;
  }

  /** Samples [from, to) of one track for a file: views, most of the silence one and the same. */
  parts(track: number, from: number, to: number): Samples[] {
    return [...this.pieces(track, from, to)].map(([piece]) => piece);
  }

  private *pieces(track: number, from: number, to: number): Generator<[Samples, number]> {
    for (let at = from; at < to; ) {
      const first = at % BLOCK;
      const frames = Math.min(BLOCK - first, to - at);
      const block = this.blocks[track]?.get(Math.floor(at / BLOCK)) ?? QUIET;
      yield [block.subarray(first, first + frames), at - from];
      at += frames;
    }
  }

  private put(blocks: Map<number, Samples>, start: number, plane: Float32Array): void {
    for (let at = 0; at < plane.length; ) {
      const number = Math.floor((start + at) / BLOCK);
      const first = (start + at) % BLOCK;
      const piece = plane.subarray(at, at + BLOCK - first);
      if (blocks.has(number) || piece.some((sample) => sample !== 0)) {
        this.block(blocks, number).set(new Int16Array(pack([piece], "s16le")), first);
      }
      at += piece.length;
    }
  }

  private block(blocks: Map<number, Samples>, number: number): Samples {
    const known = blocks.get(number);
    if (known) return known;
    const fresh = new Int16Array(BLOCK);
    blocks.set(number, fresh);
    this.bytes += BYTES;
    return fresh;
  }

  private drop(): void {
    for (const blocks of this.blocks) if (blocks.delete(this.oldest)) this.bytes -= BYTES;
    this.oldest += 1;
    this.from = this.oldest * BLOCK;
  }
}
