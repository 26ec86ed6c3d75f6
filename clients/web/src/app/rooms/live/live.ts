// What the room is doing, without any of its elements: one live input, one stream, and whether it may be heard.

import { Failure, asFailure } from "../../../client/errors";
import { stop } from "../../../client/capture";
import type { Chunk } from "../../../client/codec";
import { connect } from "../../../client/connect";
import { microphone, tabAudio } from "../../../client/microphone";
import type { Stream, TransportName } from "../../../client/stream";
import { gainOf } from "../../faders";
import type { Shell } from "../../shell";
import { type Knobs, freshKnobs } from "./knobs";

export type Kind = "microphone" | "line" | "tab";
export type Phase = "idle" | "asking" | "connecting" | "playing" | "paused";

export interface Wish {
  kind: Kind;
  device: string; // "": the browser's choice
  transport: TransportName;
  model: string;
  latency: number | null; // ms; null: the model's default
}

const FADE = 0.01; // s; a time constant

export class Live {
  phase: Phase = "idle";
  listening = false; // quiet until somebody asks: through loudspeakers a microphone would howl
  stream: Stream | null = null;
  onchange = (): void => {};
  onprogress = (): void => {};
  onstems = (_: Chunk): void => {};
  private readonly knobs = new Map<string, Knobs>(); // by stem: they stay for the next session
  private input: MediaStream | null = null;
  private monitor: GainNode | null = null;
  private turn = 0; // a newer command makes an older one that still waits give up

  constructor(private readonly shell: Shell) {}

  knobsOf(stem: string): Knobs {
    const known = this.knobs.get(stem) ?? freshKnobs();
    this.knobs.set(stem, known);
    return known;
  }

  setKnobs(stem: string, change: Partial<Knobs>): void {
    Object.assign(this.knobsOf(stem), change);
    this.apply();
    this.onchange();
  }

  setListening(listening: boolean): void {
    this.listening = listening;
    const { monitor } = this;
    monitor?.gain.setTargetAtTime(listening ? 1 : 0, monitor.context.currentTime, FADE);
    this.onchange();
  }

  /** Call it from a click. */
  async start(wish: Wish): Promise<void> {
    const turn = this.halt("asking");
    this.shell.fail(null);
    try {
      const context = await this.shell.wake();
      const input = await asked(wish);
      if (turn !== this.turn) return stop(input);
      this.input = input;
      this.enter("connecting");
      const notice = (text: string): void => void (turn === this.turn && this.shell.notice(text));
      const stream = await this.dial(context, input, wish, notice);
      if (turn !== this.turn) return stream.close();
      this.take(stream, turn);
    } catch (error) {
      if (turn === this.turn) this.fail(asFailure(error));
    }
  }

  setPaused(paused: boolean): void {
    if (this.stream === null) return;
    if (paused) this.stream.pause();
    else this.stream.play();
    this.enter(paused ? "paused" : "playing");
  }

  stop(): void {
    this.halt("idle");
  }

  private dial(context: AudioContext, source: MediaStream, { transport, model, latency }: Wish, notice: (text: string) => void): Promise<Stream> {
    this.monitor ??= new GainNode(context, { gain: this.listening ? 1 : 0 });
    this.monitor.connect(this.shell.output);
    return connect({
      url: this.shell.base, token: () => this.shell.key.token(), model, transport, context, source, destination: this.monitor,
      notice, ...(latency === null ? {} : { latency }),
    });
  }

  private take(stream: Stream, turn: number): void {
    const own = <T>(act: (value: T) => void) => (value: T): void => {
      if (turn === this.turn) act(value);
    };
    this.stream = stream;
    this.shell.notice("");
    for (const track of this.input?.getAudioTracks() ?? []) track.addEventListener("ended", own(() => this.gone()));
    stream.on("progress", own(() => this.onprogress()));
    stream.on("stems", own((chunk) => this.onstems(chunk)));
    stream.on("away", own(() => this.onchange()));
    stream.on("draining", own((ms) => this.shell.notice(`The server is going away: this session ends in at most ${Math.ceil(ms / 1000)} s.`)));
    stream.on("failed", own((failure) => this.fail(failure)));
    this.apply();
    this.enter("playing");
  }

  private apply(): void {
    for (const stem of this.stream?.stems ?? []) {
      const { decibels, mute, solo, pan } = this.knobsOf(stem.name);
      Object.assign(stem, { gain: gainOf(decibels), muted: mute, solo, pan });
    }
  }

  private gone(): void {
    this.fail(new Failure("The input has gone away.", "Plug it in or share it again, then press Start.", "input"));
  }

  private halt(phase: Phase): number {
    this.stream?.close();
    if (this.input) stop(this.input);
    this.stream = this.input = null;
    this.shell.notice("");
    this.enter(phase);
    return ++this.turn;
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    this.onchange();
  }

  private fail(failure: Failure): void {
    this.halt("idle");
    this.shell.fail(failure);
  }
}

const asked = ({ kind, device }: Wish): Promise<MediaStream> =>
  kind === "tab" ? tabAudio() : microphone({ device, channels: kind === "line" ? 2 : 1 });
