// What was said and may have to be said again: packed audio by its place on the timeline, the marks in it, and the end. A
// server keeps nothing of a lost session, so the page does, from as far before the first missing stem as the server said.

import { encode } from "./codec";

interface Piece {
  at: number; // sample
  frames: number;
  bytes: ArrayBuffer;
}

interface Mark {
  at: number;
  resolve(sample: number): void;
}

export class Sent {
  samples = 0;
  ended = false;
  private pieces: Piece[] = [];
  private readonly marks = new Map<string, Mark>(); // those that have not come back, in order
  private nextMark = 0;

  add(bytes: ArrayBuffer, frames: number): ArrayBuffer {
    this.pieces.push({ at: this.samples, frames, bytes });
    this.samples += frames;
    return bytes;
  }

  mark(resolve: (sample: number) => void): string {
    const id = `m${this.nextMark++}`;
    this.marks.set(id, { at: this.samples, resolve });
    return encode({ type: "mark", id });
  }

  end(): string {
    this.ended = true;
    return encode({ type: "end" });
  }

  /** A mark has come back. */
  came(id: string, sample: number): void {
    this.marks.get(id)?.resolve(sample);
    this.marks.delete(id);
  }

  /** Audio before sample `index` will not be needed again. */
  forget(index: number): void {
    let old = 0;
    while (old < this.pieces.length && this.pieces[old].at + this.pieces[old].frames <= index) old += 1;
    this.pieces.splice(0, old);
  }

  /** Everything from sample `from` on, as messages in order. Throws when that is no longer kept. */
  since(from: number): (string | ArrayBuffer)[] {
    const first = this.pieces[0]?.at ?? this.samples;
    if (from < first) throw new Error(`got a replay from sample ${from}, the audio is kept from ${first} on`);
    // Before it all stems have come: only the answer was lost.
    for (const [id, { at }] of [...this.marks]) if (at < from) this.came(id, at);
    const audio = this.pieces.filter(({ at, frames }) => at + frames > from).map((piece) => after(piece, from));
    const marks = [...this.marks].map(([id, { at }]) => ({ at, bytes: encode({ type: "mark", id }) }));
    // The sort is stable: a mark goes before the audio that begins where it stands.
    const said = [...marks, ...audio].sort((a, b) => a.at - b.at).map(({ bytes }) => bytes);
    return this.ended ? [...said, this.end()] : said;
  }
}

function after({ at, frames, bytes }: Piece, from: number): { at: number; bytes: ArrayBuffer } {
  const cut = Math.max(0, from - at);
  return { at: at + cut, bytes: cut > 0 ? bytes.slice(cut * (bytes.byteLength / frames)) : bytes };
}
