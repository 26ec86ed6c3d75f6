// Turns over connections that break: one person's turn keeps its id, and nothing is told twice.
//
// Whoever goes on with a session knows nothing of the turns that were told before. It hears the last seconds again, counts its
// turns from its own beginning and may tell some of them once more. So a turn that was open when the connection broke goes on
// with the first of the same speaker that touches it, or is final as it stood when there is none; what lies before the break
// is left out; everything else gets an id that was not used yet.

import type { Told, Turn } from "./turns";

/** Of one session. Memory: the turns that are not final, and a number for each that is. */
export class Joint {
  private told = 0;
  private active: readonly number[] = [];
  private cut: number | null = null; // how far was told when the last connection broke; null: none has
  private readonly used = new Set<number>(); // ids
  private ids = new Map<number, number>(); // the server's to ours, over this connection
  private readonly open = new Map<number, Turn>(); // by our id: not final
  private orphans = new Set<number>(); // open since before the break
  private readonly ends = new Map<number, number>(); // by speaker: the end of what was told

  /** The next event comes from somebody who goes on with the session. */
  broken(): void {
    this.cut = this.told;
    this.ids = new Map();
    this.orphans = new Set(this.open.keys());
  }

  /** The event with ids of ours and without what was told before; null when nothing is left of it. */
  take(event: Told): Told | null {
    const turns = event.turns.map((turn) => this.turn(turn)).filter((turn) => turn !== null);
    const gone = event.dropped.flatMap((id) => this.ids.get(id) ?? []);
    for (const id of event.dropped) this.ids.delete(id);
    const dropped = gone.filter((id) => !this.orphans.has(id)); // of an orphan, only the rest was heard
    turns.push(...this.settle(gone.filter((id) => this.orphans.has(id))));
    if (this.cut !== null && event.told >= this.cut) turns.push(...this.settle(this.lonely()));
    for (const id of dropped) this.open.delete(id);
    if (event.told < this.told && turns.length + dropped.length === 0) return null;
    if (event.told >= this.told) [this.told, this.active] = [event.told, event.active];
    return { told: this.told, active: this.active, turns, dropped };
  }

  /** Nothing more comes: what is open is final as it stands. */
  end(): Told | null {
    const turns = this.settle([...this.open.keys()]);
    return turns.length > 0 ? { told: this.told, active: [], turns, dropped: [] } : null;
  }

  /** Orphans that nobody has gone on with. */
  private lonely(): number[] {
    const met = new Set(this.ids.values());
    return [...this.orphans].filter((id) => !met.has(id));
  }

  private settle(ids: readonly number[]): Turn[] {
    return ids.map((id) => {
      const turn = { ...this.open.get(id)!, final: true };
      this.open.delete(id);
      this.orphans.delete(id);
      return turn;
    });
  }

  /** A turn as it is told; null for one that was told before. */
  private turn(theirs: Turn): Turn | null {
    const id = this.ids.get(theirs.id) ?? this.meet(theirs);
    if (id === null) return null;
    this.ids.set(theirs.id, id);
    const before = this.open.get(id);
    const { speaker, start, end, final } = theirs;
    const ours = this.cut === null ? { id, speaker, start, end, final } : this.grown({ id, speaker, start, end, final }, before);
    if (before && !ours.final && before.start === ours.start && before.end === ours.end) return null;
    this.ends.set(speaker, Math.max(ours.end, this.ends.get(speaker) ?? 0));
    if (!final) this.open.set(id, ours);
    else {
      this.ids.delete(theirs.id);
      this.open.delete(id);
      this.orphans.delete(id);
    }
    return ours;
  }

  /** The id of ours for a turn that is new over this connection; null: it lies before the break. */
  private meet(turn: Turn): number | null {
    if (this.cut !== null) {
      const touched = this.lonely().map((id) => this.open.get(id)!)
        .find((one) => one.speaker === turn.speaker && turn.start <= one.end && one.start <= turn.end);
      if (touched) return touched.id;
      if (turn.end <= Math.max(this.cut, this.ends.get(turn.speaker) ?? 0)) return null;
    }
    const id = this.cut === null || !this.used.has(turn.id) ? turn.id : Math.max(...this.used) + 1;
    this.used.add(id);
    return id;
  }

  /** Never shorter than it was, and never over what was told before. */
  private grown(turn: Turn, before: Turn | undefined): Turn {
    if (before) return { ...turn, start: before.start, end: Math.max(turn.end, before.end) };
    return { ...turn, start: Math.max(turn.start, this.ends.get(turn.speaker) ?? 0) };
  }
}
