// Who spoke when: the turns of a session, folded from its `speakers` events.

/** One person speaking in the samples [start, end). Until it is `final` it may grow, or turn out to be none. */
export interface Turn {
  id: number;
  speaker: number; // 0: the first person to have spoken
  start: number;
  end: number;
  final: boolean;
}

/** What has changed. */
export interface Told {
  told: number; // samples: up to where it is known who speaks
  active: readonly number[]; // who speaks there
  turns: readonly Turn[]; // new ones, and those that have changed
  dropped: readonly number[]; // ids of those that were none
}

const SEEN = 0.3; // s; a tentative turn that is shorter does not make a person appear

export class Timeline {
  told = 0;
  active: readonly number[] = [];
  origin = 0; // sample of the recording at which the session began
  private readonly known = new Map<number, Turn>();

  constructor(readonly rate: number) {}

  take(event: Told): void {
    this.told = event.told;
    this.active = event.active;
    for (const turn of event.turns) this.known.set(turn.id, turn);
    for (const id of event.dropped) this.known.delete(id);
  }

  /** In the order of their starts. */
  get turns(): Turn[] {
    return [...this.known.values()].sort((a, b) => a.start - b.start || a.speaker - b.speaker);
  }

  /** Everybody who has spoken. */
  get speakers(): number[] {
    const seen = [...this.known.values()].filter((turn) => turn.final || turn.end - turn.start >= SEEN * this.rate);
    return [...new Set(seen.map((turn) => turn.speaker))].sort((a, b) => a - b);
  }

  /** Turns of one person that touch [from, to). */
  between(speaker: number, from: number, to: number): Turn[] {
    return [...this.known.values()].filter((turn) => turn.speaker === speaker && turn.end > from && turn.start < to);
  }

  /** Who speaks at this sample, as far as it is known. */
  at(sample: number): number[] {
    const heard = [...this.known.values()].filter((turn) => turn.start <= sample && sample < turn.end);
    return [...new Set(heard.map((turn) => turn.speaker))].sort((a, b) => a - b);
  }
}
