// Turns over calls that are lost. The session of the next call counts samples, turns and people from zero and knows no voice: what it
// tells is moved to where it begins, under ids that were not used yet. A turn that was open is final as it stood. The numbers of
// people are those of the tracks, so they stay; whether the same people have them again, nobody knows.

import type { Told, Turn } from "./turns";

export class Chapters {
  private origin = 0; // samples of all sessions before this one
  private first = 0; // the id of this session's turn 0
  private next = 0; // an id that was not used yet
  private told = 0;
  private readonly open = new Map<number, Turn>();

  take({ told, active, turns, dropped }: Told): Told {
    const moved = turns.map((turn) => ({ ...turn, id: this.id(turn.id), start: turn.start + this.origin, end: turn.end + this.origin }));
    const gone = dropped.map((id) => this.id(id));
    for (const id of gone) this.open.delete(id);
    for (const turn of moved) {
      if (turn.final) this.open.delete(turn.id);
      else this.open.set(turn.id, turn);
    }
    this.told = told + this.origin;
    return { told: this.told, active, turns: moved, dropped: gone };
  }

  /** The session is over, and the next begins at `origin`. What changes by that; null: nothing. */
  broken(origin: number): Told | null {
    const turns = [...this.open.values()].map((turn) => ({ ...turn, final: true }));
    this.open.clear();
    [this.origin, this.first] = [origin, this.next];
    return this.told > 0 ? { told: this.told, active: [], turns, dropped: [] } : null;
  }

  private id(theirs: number): number {
    const id = this.first + theirs;
    this.next = Math.max(this.next, id + 1);
    return id;
  }
}
