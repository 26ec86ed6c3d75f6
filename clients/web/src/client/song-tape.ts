// What plays next: the song, with a stretch of it again and again where one is looped. The tape only ever goes forward, as the
// ring of the player does; its pieces say which sample of the song lies where on it. Where a loop goes back, the sound before
// its end fades into the sound before its beginning, so that the seam falls on the beat and does not click.

import type { Interval } from "./song-intervals";

export const SEAM = 240; // samples: 5 ms at 48 kHz
const PIECES = 64; // remembered: the playhead is at most a few behind

/** Tape from `at` on is the song from `song` on, until the next piece. */
interface Piece {
  at: number;
  song: number;
}

/** A stretch of tape to be made: the song from `song` on. */
export interface Cut {
  song: number;
  frames: number;
  seam: { under: number; done: number } | null; // what the song from `under` on fades into, `done` of SEAM samples ago
}

export class Tape {
  at = 0; // its end: where the next sample will lie
  private pieces: Piece[] = [{ at: 0, song: 0 }];

  /** The sample of the song that comes next on it. */
  get song(): number {
    return this.songAt(this.at);
  }

  /** The sample of the song that lies at `at`. */
  songAt(at: number): number {
    const piece = this.pieces.findLast((one) => one.at <= at) ?? this.pieces[0];
    return piece.song + at - piece.at;
  }

  /** Goes on with sample `song`. */
  jump(song: number): void {
    if (this.pieces[this.pieces.length - 1].at === this.at) this.pieces.pop();
    this.pieces.push({ at: this.at, song });
    this.pieces.splice(0, this.pieces.length - PIECES);
  }

  /**
   * What to put on it next, and takes it as put: at most `most` samples, of a song of `length`, which is here from a sample on
   * `through` another. Null: nothing now, or, at the song's end, ever. A playhead behind the loop plays on to the end.
   */
  next(most: number, length: number, loop: Interval | null, through: (from: number) => number): Cut | null {
    if (loop !== null && this.song === loop.end) this.jump(loop.start);
    const { song } = this;
    const goal = loop !== null && song < loop.end ? loop.end : length;
    const seam = goal === loop?.end ? goal - SEAM : Infinity;
    const frames = Math.min(most, (song < seam ? Math.min(seam, goal) : goal) - song, through(song) - song);
    if (frames <= 0) return null;
    this.at += frames;
    const blended = loop !== null && song >= seam;
    return { song, frames, seam: blended ? { under: loop.start - (goal - song), done: song - seam } : null };
  }
}
