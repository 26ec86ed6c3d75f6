// Who takes part: names as somebody typed them, and everybody's fader. They stay for the next meeting.

import { type Fader, freshFader, gains } from "../../faders";

export class Cast {
  private readonly names = new Map<number, string>();
  private readonly faders = new Map<number, Fader>();

  constructor(private readonly changed: () => void) {}

  nameOf(speaker: number): string {
    return this.names.get(speaker) ?? `Speaker ${speaker + 1}`;
  }

  /** An empty name gives the speaker's number back. */
  setName(speaker: number, name: string): void {
    if (name.trim()) this.names.set(speaker, name.trim());
    else this.names.delete(speaker);
    this.changed();
  }

  fader(speaker: number): Fader {
    const known = this.faders.get(speaker) ?? freshFader();
    this.faders.set(speaker, known);
    return known;
  }

  setFader(speaker: number, change: Partial<Fader>): void {
    Object.assign(this.fader(speaker), change);
    this.changed();
  }

  /** One for each of so many tracks. */
  gains(tracks: number, listening: boolean): number[] {
    return gains(Array.from({ length: tracks }, (_, speaker) => this.fader(speaker)), listening);
  }
}
