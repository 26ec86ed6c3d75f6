// Which samples of a song are here: disjoint stretches in order. They are few (one a seek), so lists are searched from the front.

/** The samples [start, end). */
export interface Interval {
  start: number;
  end: number;
}

export class Intervals {
  private parts: Interval[] = [];

  get all(): readonly Interval[] {
    return this.parts;
  }

  /** Samples held. */
  get size(): number {
    return this.parts.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** Stretches that touch become one. */
  add(start: number, end: number): void {
    if (end <= start) return;
    const apart = this.parts.filter((part) => part.end < start || part.start > end);
    const met = this.parts.filter((part) => part.end >= start && part.start <= end);
    const first = Math.min(start, ...met.map((part) => part.start));
    const last = Math.max(end, ...met.map((part) => part.end));
    this.parts = [...apart, { start: first, end: last }].sort((a, b) => a.start - b.start);
  }

  remove(start: number, end: number): void {
    if (end <= start) return;
    this.parts = this.parts
      .flatMap((part) => [{ ...part, end: Math.min(part.end, start) }, { ...part, start: Math.max(part.start, end) }])
      .filter((part) => part.end > part.start);
  }

  /** The end of the stretch that holds sample `at`; `at` itself where it is not here. */
  through(at: number): number {
    return this.parts.find((part) => part.start <= at && at < part.end)?.end ?? at;
  }

  /** The first stretch of [from, to) that is not here, or null: all of it is. */
  hole(from: number, to: number): Interval | null {
    const start = this.through(from);
    if (start >= to) return null;
    const next = this.parts.find((part) => part.start > start);
    return { start, end: Math.min(to, next?.start ?? to) };
  }
}
