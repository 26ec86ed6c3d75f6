// How late live audio may be before the network counts as too slow for it.

const LAG = 4; // seconds that may wait to go up. More is not late, it is broken
const MOST = 60; // the same, after connections that were lost: what was said meanwhile is kept, and worked off

/** Of one source, in its samples. */
export class Lag {
  private owed = 0; // what lost connections held up

  constructor(private readonly rate: number) {}

  /** Whether it is too late, with so many samples waiting; `away`: while there is no connection. */
  broken(waiting: number, away: boolean): boolean {
    this.owed = away ? waiting : Math.min(this.owed, waiting);
    return waiting > Math.min(this.owed + LAG * this.rate, MOST * this.rate);
  }
}
