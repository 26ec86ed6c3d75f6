// A meeting, without any of its elements. It is heard once (a microphone or a tab live, a recording as fast as the server
// takes it); what was said is kept and can be played from anywhere, while it is still being heard or after.

import { socketUrl } from "../../../client/address";
import { CaptureSource, stop } from "../../../client/capture";
import type { Chunk, Ready } from "../../../client/codec";
import { type Failure, asFailure } from "../../../client/errors";
import { decodeSong } from "../../../client/file";
import { connector } from "../../../client/socket";
import type { Source } from "../../../client/source";
import type { Timeline } from "../../../client/turns";
import { Keeper } from "../../debug";
import { RATE, type Shell } from "../../shell";
import { Book } from "./book";
import { Cast } from "./cast";
import { Hearing } from "./hearing";
import { Levels } from "./levels";
import type { Line, LineEvents } from "./line";
import { Live } from "./live";
import { type Options, USUAL, wanted } from "./options";
import { Playing } from "./playing";
import { Recording } from "./recording";
import { Tracks } from "./tracks";

export type Phase = "idle" | "decoding" | "asking" | "connecting" | "hearing" | "paused" | "ending" | "done" | "failed";
export type Origin = "recording" | "microphone" | "tab";

export class Meeting {
  phase: Phase = "idle";
  origin: Origin = "recording";
  name = "meeting"; // of what is heard
  options: Options = { ...USUAL };
  ready: Ready | null = null;
  length: number | null = null; // samples, once it is known
  tracks = new Tracks();
  levels = new Levels(RATE);
  book = new Book();
  active: readonly number[] = []; // who speaks where all is known
  listening = true; // live: whether it is played while it is heard
  keeping = true; // live: whether the tracks are kept
  away = false;
  line: Line | null = null;
  readonly cast = new Cast(() => this.applyGains());
  readonly keeper = new Keeper();
  readonly playing: Playing;
  onchange: () => void = () => {}; // anything but the playhead and the levels
  onmove: () => void = () => {}; // the playhead, thirty times a second
  private eager = false; // whether to play as soon as there is something
  private session = {}; // which line is listened to: what an older one still says is not heard
  private turn = 0; // a newer command makes an older one that still waits give up

  constructor(private readonly shell: Shell) {
    const score = () => ({ ready: this.ready, tracks: this.tracks, last: this.open ? null : this.tracks.end });
    const [changed, moved] = [() => this.onchange(), () => this.onmove()];
    this.playing = new Playing(shell, score, { changed, moved, gains: () => this.cast.gains(this.stems.length, true) });
  }

  get live(): boolean {
    return this.origin !== "recording";
  }

  /** Whether something is being heard now. */
  get open(): boolean {
    return ["connecting", "hearing", "paused", "ending"].includes(this.phase);
  }

  get stems(): readonly string[] {
    return this.ready?.stems ?? [];
  }

  /** Samples, of which everything is here. */
  get told(): number {
    return this.line?.told ?? 0;
  }

  get position(): number {
    return this.live && this.open ? (this.line?.position ?? 0) : this.playing.position;
  }

  /** Whether something of it can be played back now. */
  get playable(): boolean {
    return this.tracks.end > this.tracks.from && (!this.live || !this.open);
  }

  /** Who is heard to speak: live as soon as it is known, else at the playhead. */
  get speaking(): readonly number[] {
    if (this.live && this.open) return this.phase === "hearing" ? this.active : [];
    return this.playing.state === "playing" ? this.book.at(this.position) : [];
  }

  nameOf(speaker: number): string {
    return this.cast.nameOf(speaker);
  }

  /** What the live line plays. */
  get gains(): number[] {
    return this.cast.gains(this.stems.length, this.listening);
  }

  setListening(listening: boolean): void {
    this.listening = listening;
    this.applyGains();
  }

  /** A recording: heard at once, from its beginning, and with `eager` played as it comes. Call it from a click. */
  async load(file: File, eager = false): Promise<void> {
    const turn = this.clear("decoding", "recording", file.name);
    this.eager = eager;
    await this.trying(turn, async () => {
      const { planes } = await decodeSong(file, RATE);
      const context = await this.shell.wake();
      if (turn !== this.turn) return;
      const recording = new Recording(planes);
      this.length = recording.length;
      this.enter("connecting");
      this.line = this.hear(context, recording);
    });
  }

  /** Hear something live, quietly until asked: through loudspeakers it would howl. Call it from a click. */
  async listen(origin: Exclude<Origin, "recording">, ask: () => Promise<MediaStream>): Promise<void> {
    const turn = this.clear("asking", origin, origin);
    this.listening = false;
    await this.trying(turn, async () => {
      const context = await this.shell.wake();
      const sound = await ask();
      if (turn !== this.turn) return stop(sound);
      this.enter("connecting");
      const line = await this.dial(context, sound);
      if (turn !== this.turn) return line.close();
      this.line = line;
      this.applyGains();
    });
  }

  setPaused(paused: boolean): void {
    if (this.phase !== (paused ? "hearing" : "paused")) return;
    this.line?.setPaused(paused);
    this.enter(paused ? "paused" : "hearing");
  }

  /** Playing stops; or, where nothing is played, hearing: what was said last still comes, and can be played then. */
  stop(): void {
    const played = this.playing.state !== "stopped";
    this.eager = false;
    this.playing.halt();
    if (!this.open || (played && !this.live)) this.onchange();
    else if (this.ready === null) this.close();
    else if (this.phase !== "ending") {
      this.enter("ending");
      this.line?.end();
    }
  }

  /** Everything is let go of. */
  close(): void {
    this.turn += 1;
    this.session = {};
    this.playing.halt();
    this.line?.close();
    [this.line, this.away] = [null, false];
    if (this.open) this.enter("done");
  }

  private async dial(context: AudioContext, sound: MediaStream): Promise<Line> {
    const ask = wanted(this.options, this.shell.models);
    if (ask.mode === "speakers") return Live.open(this.shell, context, sound, this.options.transport, ask, this.handlers());
    const ended = (): void => this.stop();
    return this.hear(context, await CaptureSource.open(context, sound, { channels: 1, ended, owned: true }));
  }

  private hear(context: AudioContext, source: Source): Line {
    const connect = connector(socketUrl(this.shell.base), () => this.shell.key.token());
    return new Hearing(context, source, connect, wanted(this.options, this.shell.models), this.handlers());
  }

  private handlers(): LineEvents {
    const session = (this.session = {});
    const own = <T extends unknown[]>(act: (...given: T) => void) => (...given: T): void => {
      if (session === this.session) act(...given);
    };
    return {
      ready: own((ready: Ready) => this.begin(ready)),
      stems: own((chunk: Chunk) => this.take(chunk)),
      speakers: own((timeline: Timeline) => this.learn(timeline)),
      moved: own(() => this.onmove()),
      notice: own((text: string) => this.shell.notice(text)),
      away: own((away: boolean) => {
        this.away = away;
        this.onchange();
      }),
      done: own(() => this.finish()),
      failed: own((failure: Failure) => this.fail(failure)),
    };
  }

  private begin(ready: Ready): void {
    this.ready = ready;
    if (this.phase === "connecting") this.enter("hearing");
  }

  private take(chunk: Chunk): void {
    this.keeper.take(chunk);
    this.levels.add(chunk);
    if (this.keeping || !this.live) this.tracks.add(chunk);
    if (this.eager) void this.playing.play();
    this.eager = false;
    this.onmove();
  }

  private learn(timeline: Timeline): void {
    this.book.read(timeline);
    this.active = timeline.active;
    this.onchange();
  }

  /** All that was heard has come. */
  private finish(): void {
    this.length = this.told;
    this.active = [];
    this.line?.close();
    this.enter("done");
  }

  private applyGains(): void {
    this.line?.setGains(this.gains);
    this.playing.replay?.setGains(this.cast.gains(this.stems.length, true));
    this.onchange();
  }

  private clear(phase: Phase, origin: Origin, name: string): number {
    this.close();
    Object.assign(this, { origin, name, ready: null, length: null, active: [], listening: true, eager: false });
    [this.tracks, this.levels, this.book] = [new Tracks(), new Levels(RATE), new Book()];
    this.playing.halt();
    this.shell.fail(null);
    this.enter(phase);
    return this.turn;
  }

  private async trying(turn: number, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (turn === this.turn) this.fail(asFailure(error));
    }
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    this.shell.notice("");
    this.onchange();
  }

  private fail(failure: Failure): void {
    this.shell.fail(failure);
    this.enter("failed");
  }
}
