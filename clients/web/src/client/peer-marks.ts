// Marks that the server has not sent back yet. One that is under way while the connection is lost comes with the next: what was sent
// before it has come, or never will.

export class Marks {
  private readonly waiting = new Map<string, (sample: number) => void>(); // by id
  private count = 0;

  get ids(): Iterable<string> {
    return this.waiting.keys();
  }

  /** `say`: with its id. */
  ask(say: (id: string) => void): Promise<number> {
    const id = `m${this.count++}`;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      say(id);
    });
  }

  came(id: string, sample: number): void {
    this.waiting.get(id)?.(sample);
    this.waiting.delete(id);
  }
}
