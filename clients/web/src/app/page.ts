// The page around the rooms: its one audio context, its key, its models, its bar, and which room is open.

import { Failure, asFailure } from "../client/errors";
import { Key } from "../client/key";
import { type Model, fetchModels } from "../client/models";
import { Ring } from "../client/ring";
import { Bar } from "./bar";
import { type Capacity, Watch } from "./capacity";
import type { Place } from "./rooms";
import { RATE, type Room, type Shell, type Vital } from "./shell";

const STARTING = 10_000; // ms that an audio context may take to run
const NOTHING: Vital = { declared: null, measured: null, ear: null, network: "", compute: null };

/** Not in every browser, and not in the compiler's library. */
type Steerable = AudioContext & { setSinkId?(id: string): Promise<void> };

export class Page implements Shell {
  models: readonly Model[] = [];
  readonly key = new Key();
  readonly base = new URL("/", location.href);
  room: Room | null = null;
  place: Place | null = null;
  onroom: () => void = () => {};
  private readonly bar: Bar;
  private readonly watch: Watch;
  private context: AudioContext | null = null;
  private bus: GainNode | null = null;
  private sink = "";
  private loading: Failure | null = null; // why the models are not known
  private turn = 0; // a newer room makes one that is still being fetched give up

  constructor(private readonly host: HTMLElement, foot: HTMLElement) {
    this.bar = new Bar(foot);
    this.watch = new Watch(this.base, this.key, () => this.bar.connection(this.watch.reached, this.watch.capacity));
  }

  get capacity(): Capacity | null {
    return this.watch.capacity;
  }

  get output(): AudioNode {
    if (this.bus === null) throw new Error("nothing has been played yet: there is no audio context");
    return this.bus;
  }

  async wake(): Promise<AudioContext> {
    if (this.context === null) {
      this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      this.bus = new GainNode(this.context);
      this.bus.connect(this.context.destination);
      if (this.sink !== "") await this.setOutputDevice(this.sink);
    }
    await Promise.race([this.context.resume(), new Promise((resolve) => setTimeout(resolve, STARTING))]);
    if (this.context.state === "running") return this.context;
    const advice = "Plug in headphones or a loudspeaker, allow this page to play sound, and try again.";
    throw new Failure("The browser does not begin to play.", advice, "silent"); // Firefox waits for ever where there is no output device
  }

  async setOutputDevice(id: string): Promise<void> {
    const context = this.context as Steerable | null;
    if (!("setSinkId" in AudioContext.prototype)) {
      throw new Failure("This browser cannot choose an output device.", "Choose it in the system's sound settings.", "sink");
    }
    await context?.setSinkId?.(id);
    this.sink = id;
  }

  vital(now: Partial<Vital>): void {
    this.bar.tell(now);
    this.bar.connection(this.watch.reached, this.watch.capacity);
  }

  fail(failure: Failure | null): void {
    this.bar.fail(failure);
  }

  notice(text: string): void {
    this.bar.notice(text);
  }

  /** Leaves the room that is open, with all it holds, and enters this one. */
  async enter(place: Place): Promise<void> {
    if (place === this.place) return;
    const turn = ++this.turn;
    this.leave();
    this.place = place;
    this.onroom();
    try {
      const { open } = await place.open();
      if (turn !== this.turn) return;
      this.room = open(this.host, this);
      if (this.models.length > 0) this.room.onmodels();
    } catch (error) {
      if (turn === this.turn) this.fail(asFailure(error));
    }
    this.onroom();
  }

  private leave(): void {
    this.room?.leave();
    this.room = null;
    this.host.replaceChildren();
    this.vital(NOTHING);
    this.fail(this.loading); // which no room makes good
    this.notice("");
  }

  /** Asks the server what it has. */
  async load(): Promise<void> {
    void this.watch.look();
    try {
      this.models = await fetchModels(this.key.headers);
      if (this.loading !== null && this.bar.failed === this.loading) this.fail(null);
      this.loading = null;
      this.room?.onmodels();
    } catch (error) {
      this.fail((this.loading = asFailure(error)));
    }
  }

  /** For `window.rivulet.state()`. */
  get state(): Record<string, unknown> {
    const { failed, vital } = this.bar;
    return {
      room: this.place?.name ?? null,
      shared: Ring.shareable,
      failure: failed && { code: failed.code, message: failed.message, advice: failed.advice },
      vital: { ...vital },
      capacity: this.capacity,
      ...this.room?.state(),
    };
  }
}
