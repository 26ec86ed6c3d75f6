// When to try again after a lost connection: soon, then ever more seldom, with chance (the many pages of one server must not
// come back in one moment), and not for ever.

const FIRST = 250; // ms
const MOST = 4000; // ms

export class Patience {
  private told = -1;
  private until = 0;
  private delay = FIRST;

  constructor(readonly seconds = 30, private readonly random: () => number = Math.random) {}

  /**
   * ms to wait before the next try, at least `least`; null: give up. The time is counted from the first break after which no
   * stems came (`told` stands still), so that a server which takes the session up and drops it, over and over, is given up too.
   */
  wait(now: number, told: number, least = 0): number | null {
    if (told !== this.told) {
      this.told = told;
      this.until = now + 1000 * this.seconds;
      this.delay = FIRST;
    } else if (now >= this.until) return null;
    const wait = Math.max(least, this.delay * (0.5 + this.random() / 2));
    this.delay = Math.min(2 * this.delay, MOST);
    return Math.min(wait, this.until - now);
  }
}
