// What the page is doing, without any of its elements: a song or a microphone, one run at a time, and the faders.

import { type Failure, asFailure } from "../client/errors";
import { type Fader, freshFader, gains } from "./faders";
import { FileSource, type Song, decodeSong } from "../client/file";
import { Key } from "../client/key";
import { MicrophoneSource } from "../client/microphone";
import { type Choice, type Into, type Model, type Purpose, choose } from "../client/models";
import { Run } from "../client/run";
import type { Chunk, Mode } from "../client/codec";
import { connector } from "../client/socket";
import type { Source } from "../client/source";
import { Timeline } from "../client/turns";

export const RATE = 48000; // asked of the context and so of the session: one clock from microphone to ear

export type Phase = "idle" | "decoding" | "asking" | "connecting" | "playing" | "paused" | "ended" | "failed";

export class App {
  phase: Phase = "idle";
  purpose: Purpose = "file";
  models: Model[] = [];
  chosen: string | null = null; // a model by name; null: whatever suits the source
  into: Into = "suits";
  song: Song | null = null;
  run: Run | null = null;
  origin = 0; // of the run's timeline, in samples of the song
  listening = true;
  readonly key = new Key();
  failure: Failure | null = null;
  notice = "";
  stems: readonly string[] = [];
  mode: Mode = "separate"; // of the stems
  used = { model: "", diarizer: "" }; // by the last run
  timeline = new Timeline(RATE); // of the last run
  readonly names = new Map<number, string>(); // of speakers, as somebody typed them
  onchange: () => void = () => {}; // anything but the playhead and the levels
  onreport: () => void = () => {}; // the playhead and the levels, 30 times a second
  onstems: (chunk: Chunk) => void = () => {};
  onspeakers: () => void = () => {}; // somebody began to speak, went on or ended
  private context: AudioContext | null = null;
  private readonly faders = new Map<string, Fader>();
  private turn = 0; // a newer command makes older ones that still wait for something give up

  /** Whether the connection is lost, and another one looked for. */
  get away(): boolean {
    return (this.run?.session.away ?? false) && !this.run!.failed;
  }

  get output(): AudioNode | null {
    return this.context && (this.bus ??= new GainNode(this.context));
  }
  private bus: GainNode | null = null;

  /** Samples of the song, or since the microphone was opened. */
  get position(): number {
    return this.origin + (this.run?.report?.position ?? 0);
  }

  fader(stem: string): Fader {
    const known = this.faders.get(stem) ?? freshFader();
    this.faders.set(stem, known);
    return known;
  }

  setFader(stem: string, change: Partial<Fader>): void {
    Object.assign(this.fader(stem), change);
    this.applyGains();
  }

  nameOf(speaker: number): string {
    return this.names.get(speaker) ?? `Speaker ${speaker + 1}`;
  }

  /** An empty name gives the speaker's number back. */
  setName(speaker: number, name: string): void {
    if (name.trim()) this.names.set(speaker, name.trim());
    else this.names.delete(speaker);
    this.onchange();
  }

  setListening(listening: boolean): void {
    this.listening = listening;
    this.applyGains();
  }

  async load(file: File): Promise<void> {
    const turn = this.halt("decoding");
    this.purpose = "file";
    this.song = null;
    this.origin = 0;
    this.setListening(true);
    try {
      const song = await decodeSong(file, RATE);
      if (turn !== this.turn) return;
      this.song = song;
      this.enter("idle");
    } catch (error) {
      if (turn === this.turn) this.fail(asFailure(error));
    }
  }

  /** Go on, or start the song from the playhead; from its beginning when it has ended. Call it from a click. */
  async play(): Promise<void> {
    if (this.phase === "paused" && this.run && !this.run.failed) {
      this.run.setPaused(false);
      return this.enter("playing");
    }
    if (this.purpose === "microphone") return this.microphone();
    if (this.song) await this.playFrom(this.phase === "ended" ? 0 : this.position);
  }

  pause(): void {
    if (this.phase !== "playing" && this.phase !== "connecting") return;
    this.run?.setPaused(true);
    this.enter("paused");
  }

  stop(): void {
    this.halt("idle");
    this.origin = 0;
    this.onchange();
  }

  /** To a place in the song, in samples; a paused song stays paused there. */
  async seek(to: number): Promise<void> {
    if (!this.song) return;
    const at = Math.min(Math.max(0, Math.round(to)), this.song.planes[0].length);
    if (this.phase === "playing" || this.phase === "connecting") return this.playFrom(at);
    this.halt("idle");
    this.origin = at;
    this.onchange();
  }

  /** Listen to the microphone, quietly until asked: through loudspeakers it would howl. Call it from a click. */
  async microphone(): Promise<void> {
    const turn = this.halt("asking");
    if (this.purpose === "file") this.setListening(false);
    this.purpose = "microphone";
    this.origin = 0;
    try {
      const context = await this.wake();
      const { choice } = this;
      const gone = (): void => this.stop();
      const source = await MicrophoneSource.open(context, choice.model?.channels === 2 ? 2 : 1, gone);
      if (turn !== this.turn) return source.close();
      this.begin(context, source, choice);
    } catch (error) {
      if (turn === this.turn) this.fail(asFailure(error));
    }
  }

  private async playFrom(at: number): Promise<void> {
    const { song } = this;
    if (!song) return;
    const turn = this.halt("connecting");
    this.origin = at;
    try {
      const context = await this.wake();
      if (turn === this.turn) this.begin(context, new FileSource(song, at), this.choice);
    } catch (error) {
      if (turn === this.turn) this.fail(asFailure(error));
    }
  }

  /** What is used for the source of now. */
  get choice(): Choice {
    return choose(this.models, this.purpose, this.into, this.chosen);
  }

  private async wake(): Promise<AudioContext> {
    this.context ??= new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    this.output!.connect(this.context.destination);
    await this.context.resume();
    return this.context;
  }

  private begin(context: AudioContext, source: Source, { model, mode }: Choice): void {
    const url = new URL("/v1/stream", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.enter("connecting");
    const connect = connector(url.href, () => this.key.token());
    const wanted = { model: model?.name ?? "music", ...(mode === "separate" ? {} : { mode }) };
    this.run = new Run(context, this.output!, source, connect, wanted, {
      ready: (ready) => {
        this.stems = ready.stems;
        this.mode = ready.mode ?? mode;
        this.used = { model: ready.model, diarizer: ready.diarizer ?? "" };
        this.notice = "";
        this.applyGains();
        if (this.phase === "connecting") this.enter("playing");
      },
      report: (report) => {
        this.onreport();
        if (report.phase === "ended" && this.phase === "playing") this.enter("ended");
      },
      stems: (chunk) => this.onstems(chunk),
      speakers: () => this.onspeakers(),
      stats: () => {},
      notice: (text) => {
        this.notice = text;
        this.onchange();
      },
      away: () => this.onchange(),
      failed: (failure) => {
        // A server that tired of a paused session is no failure: Play opens a new one at the playhead.
        if (this.phase !== "paused" || failure.code !== "timeout") this.fail(failure);
      },
    });
    this.timeline = this.run.timeline;
    this.timeline.origin = this.origin;
  }

  private applyGains(): void {
    this.run?.setGains(gains(this.stems.map((stem) => this.fader(stem)), this.listening));
    this.onchange();
  }

  private halt(phase: Phase): number {
    this.origin = this.position;
    this.run?.close();
    this.run = null;
    this.enter(phase);
    return ++this.turn;
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    if (phase !== "failed") this.failure = null;
    this.notice = "";
    this.onchange();
  }

  private fail(failure: Failure): void {
    this.failure = failure;
    this.enter("failed");
  }
}
