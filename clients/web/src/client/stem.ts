// The stems as a mixing desk: whoever turns a knob changes sound that has come already. Nothing here asks the server.

import { type Sides, sides } from "./pan";

/** Puts the knobs into effect, in ramps of 10 ms; one pair of gains a stem. */
export type Apply = (gains: readonly Sides[]) => void;

/** One output of a session: a source, a person, or the server's mix. */
export class Stem {
  /** The peak of late, before the gain: 1 is full scale. */
  level = 0;
  /** Over WebRTC, what comes of it; null over a WebSocket, where all stems come in one message. */
  stream: MediaStream | null = null;
  private state = { gain: 1, pan: 0, muted: false, solo: false };

  constructor(readonly name: string, private readonly changed: () => void) {}

  /** Linear: 1 leaves it as it is. */
  get gain(): number {
    return this.state.gain;
  }

  set gain(gain: number) {
    if (!(gain >= 0 && gain <= 16)) throw new RangeError(`got a gain of ${gain} for ${this.name}, expected 0 to 16`);
    this.change({ gain });
  }

  /** -1 is left, 1 is right. */
  get pan(): number {
    return this.state.pan;
  }

  set pan(pan: number) {
    if (!(pan >= -1 && pan <= 1)) throw new RangeError(`got a pan of ${pan} for ${this.name}, expected -1 to 1`);
    this.change({ pan });
  }

  get muted(): boolean {
    return this.state.muted;
  }

  set muted(muted: boolean) {
    this.change({ muted });
  }

  /** With any solo only solos sound; a mute wins over a solo, as on most desks. */
  get solo(): boolean {
    return this.state.solo;
  }

  set solo(solo: boolean) {
    this.change({ solo });
  }

  private change(change: Partial<typeof this.state>): void {
    Object.assign(this.state, change);
    this.changed();
  }
}

export class Desk {
  readonly stems: readonly Stem[];

  /** `channels`: of each stem, 1 or 2. */
  constructor(names: readonly string[], private readonly channels: number, private readonly apply: Apply) {
    this.stems = names.map((name) => new Stem(name, () => this.apply(this.gains)));
  }

  get gains(): Sides[] {
    const soloing = this.stems.some((stem) => stem.solo);
    return this.stems.map((stem) => {
      const gain = !stem.muted && (stem.solo || !soloing) ? stem.gain : 0;
      const [left, right] = sides(stem.pan, this.channels);
      return [gain * left, gain * right];
    });
  }
}
