// How busy the server is: `GET /v1/capacity`, asked gently, and not while nobody looks.

import type { Key } from "../client/key";

export interface Capacity {
  sessions: number;
  files: number; // of the sessions, those that are not live
  free: Record<string, number>; // how many more of each loaded model would be let in
  utilisation: Record<string, number>; // shares of the time that its parts are busy
}

const EVERY = 5_000; // ms
const SELDOM = 30_000; // when it did not answer

/** The busiest part: what fills up first. */
export const load = ({ utilisation }: Capacity): number => Math.max(0, ...Object.values(utilisation));

export class Watch {
  capacity: Capacity | null = null;
  reached: boolean | null = null; // null: not tried yet
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly base: URL, private readonly key: Key, private readonly changed: () => void) {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) void this.look();
    });
  }

  /** Now, and again later. */
  async look(): Promise<void> {
    clearTimeout(this.timer);
    const asked = fetch(new URL("/v1/capacity", this.base), { headers: this.key.headers });
    const answer = await asked.catch(() => null);
    this.reached = answer !== null;
    this.capacity = answer?.ok ? ((await answer.json().catch(() => null)) as Capacity | null) : null;
    this.changed();
    clearTimeout(this.timer); // of another look meanwhile
    if (!document.hidden) this.timer = setTimeout(() => void this.look(), answer?.ok ? EVERY : SELDOM);
  }
}
