// The turns of a meeting by who said them, to be looked up thirty times a second: an hour has thousands.

import type { Timeline, Turn } from "../../../client/turns";

export class Book {
  speakers: readonly number[] = [];
  turns: readonly Turn[] = []; // in the order of their starts
  private lanes = new Map<number, Lane>();

  /** Something was told. */
  read(timeline: Timeline): void {
    this.turns = timeline.turns;
    this.speakers = timeline.speakers;
    this.lanes = new Map();
    for (const turn of this.turns) {
      const lane = this.lanes.get(turn.speaker) ?? new Lane();
      this.lanes.set(turn.speaker, lane);
      lane.add(turn);
    }
  }

  /** Turns of one person that touch the samples [from, to). */
  between(speaker: number, from: number, to: number): Turn[] {
    return this.lanes.get(speaker)?.between(from, to) ?? [];
  }

  of(speaker: number): readonly Turn[] {
    return this.lanes.get(speaker)?.turns ?? [];
  }

  /** Who speaks at this sample, as far as it is known. */
  at(sample: number): number[] {
    return [...this.lanes.keys()].filter((speaker) => this.between(speaker, sample, sample + 1).length > 0).sort((a, b) => a - b);
  }
}

/** One person's turns: they do not overlap, so their ends are in order too. */
class Lane {
  readonly turns: Turn[] = [];

  add(turn: Turn): void {
    this.turns.push(turn);
  }

  between(from: number, to: number): Turn[] {
    const found: Turn[] = [];
    for (let at = this.first(from); at < this.turns.length && this.turns[at].start < to; at += 1) found.push(this.turns[at]);
    return found;
  }

  /** The first turn that ends after `sample`. */
  private first(sample: number): number {
    let [low, high] = [0, this.turns.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.turns[middle].end > sample) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
