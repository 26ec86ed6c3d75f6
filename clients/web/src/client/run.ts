// One run: a source, a session and a player, from `start` to the last sample. Everything is pulled: a report of the audio
// thread, or stems that came, make the next blocks go out. A paused playhead reports no progress, so nothing more is sent.

import type { Chunk, Ready, Start, Stats } from "./codec";
import { deviceDelay } from "./device";
import { Failure, asFailure } from "./errors";
import { Lag } from "./lag";
import { Latency } from "./latency";
import type { Sides } from "./pan";
import { Player } from "./player";
import type { Report } from "./player-messages";
import { Session } from "./session";
import type { Connect } from "./socket";
import type { Source } from "./source";
import { type Told, Timeline } from "./turns";

export const AHEAD = 8; // seconds of a file's stems kept ahead of the playhead: rides out a stalled network

export type Wanted = Omit<Start, "type" | "rate" | "channels" | "format">;

export interface RunEvents {
  ready(ready: Ready): void;
  report(report: Report): void;
  stems(chunk: Chunk): void;
  speakers(timeline: Timeline): void;
  stats(stats: Stats): void;
  notice(text: string): void;
  draining?(deadline: number): void; // ms
  away(away: boolean): void; // the connection is lost, or made again
  done?(samples: number): void; // all stems have come
  failed(failure: Failure): void;
}

export class Run {
  readonly session: Session;
  readonly latency: Latency;
  ready: Ready | null = null;
  player: Player | null = null;
  report: Report | null = null;
  stats: Stats | null = null;
  drained = false; // all stems are here
  failed = false; // no more will come
  readonly timeline: Timeline; // who speaks when, in the mode that tells it
  toTurn: number | null = null; // live: seconds from the capture of a sample to knowing who spoke it, lately
  toEar: number | null = null; // live: seconds from capture to ear with the output device's delay, when last something played
  private early: Chunk[] = []; // stems that came while the worklet was loading
  private paused = false;
  private gains: readonly (number | Sides)[] | null = null;
  private over = false;
  private readonly lag: Lag;

  constructor(
    private readonly context: AudioContext,
    private readonly output: AudioNode,
    readonly source: Source,
    connect: Connect,
    wanted: Wanted,
    private readonly on: RunEvents,
  ) {
    this.timeline = new Timeline(context.sampleRate);
    this.lag = new Lag(context.sampleRate);
    this.latency = new Latency(source.live ? 1 / context.sampleRate : 0);
    source.onblock = () => this.pump();
    const { channels } = source;
    this.session = new Session(connect, { type: "start", ...wanted, rate: context.sampleRate, channels, format: "s16le" }, {
      ready: (ready) => void this.begin(ready),
      stems: (chunk) => this.take(chunk),
      speakers: (told) => this.learn(told),
      stats: (stats) => on.stats((this.stats = stats)),
      notice: (text) => on.notice(text),
      draining: (deadline) => on.draining?.(deadline),
      away: () => on.away(true),
      back: () => {
        on.away(false);
        this.pump();
      },
      done: (samples) => this.drain(samples),
      failed: (failure) => this.fail(failure),
    });
  }

  /** One gain a stem, or one a side of each. */
  setGains(gains: readonly (number | Sides)[]): void {
    this.gains = gains;
    this.player?.setGains(gains);
  }

  setPaused(paused: boolean): void {
    this.paused = paused;
    this.source.setPaused(paused || this.ready === null);
    this.player?.setPaused(paused);
    if (!paused) this.pump();
  }

  /** No more audio is taken; what went up comes back and is played. */
  end(): void {
    this.source.close();
    this.session.end();
  }

  close(): void {
    this.over = true;
    this.source.close();
    this.session.close();
    this.player?.close();
  }

  // Captured samples are dated by the audio clock, which stands still while the context is suspended; a file's are not.
  private get now(): number {
    return this.source.live ? this.context.currentTime : performance.now() / 1000;
  }

  private async begin(ready: Ready): Promise<void> {
    this.ready = ready;
    this.source.setPaused(this.paused);
    this.on.ready(ready);
    this.pump();
    try {
      // Everything that may be unplayed at once: what is ahead, and what a model's own latency holds until the end.
      const store = ready.latency_samples + (AHEAD + 1) * ready.rate;
      const player = await Player.open(this.context, ready, this.source.live, store, this.source.foreign);
      if (this.over) return player.close();
      this.player = player;
    } catch (error) {
      return this.fail(asFailure(error));
    }
    this.player.onreport = (report) => this.progress(report);
    if (this.gains) this.player.setGains(this.gains);
    this.player.setPaused(this.paused);
    this.player.output.connect(this.output);
    for (const chunk of this.early) this.player.write(chunk);
    this.early = [];
    if (this.drained) this.player.setEnd(this.session.told);
  }

  private pump(): void {
    const { session, source, ready } = this;
    if (ready === null || this.over || this.failed) return;
    if (source.live && this.lag.broken(source.waiting, session.away)) {
      const advice = "Use a faster network, or a server that is nearer.";
      return this.fail(new Failure("The connection is too slow for live audio.", advice, "slow"));
    }
    const limit = (this.report?.position ?? 0) + ready.latency_samples + AHEAD * ready.rate;
    while (session.room && (source.live || session.sent < limit)) {
      const block = source.take();
      if (block === null) break;
      this.latency.sent(session.sent, block.time ?? this.now);
      session.send(block.planes);
    }
    if (session.sent === source.length) session.end();
  }

  private take(chunk: Chunk): void {
    this.latency.arrived(chunk.start, this.now);
    this.on.stems(chunk); // before the planes are given away
    if (this.player) this.player.write(chunk);
    else this.early.push(chunk);
    this.pump();
  }

  private learn(told: Told): void {
    this.timeline.take(told);
    const born = this.source.live ? this.latency.timeOf(told.told - 1) : null;
    if (born !== null) this.toTurn = this.now - born;
    this.on.speakers(this.timeline);
  }

  private progress(report: Report): void {
    this.report = report;
    const born = this.source.live && report.phase === "playing" ? this.latency.timeOf(report.position) : null;
    if (born !== null) this.toEar = this.now - born + deviceDelay(this.context);
    this.latency.forget(report.position);
    this.on.report(report);
    this.pump();
  }

  private drain(samples: number): void {
    this.drained = true;
    this.player?.setEnd(samples);
    this.on.done?.(samples);
  }

  // What has come already is still played: a song does not stop in mid-bar because the network did.
  private fail(failure: Failure): void {
    if (this.over || this.failed) return;
    this.failed = true;
    this.source.close();
    this.session.close();
    this.player?.setEnd(this.session.told);
    this.on.failed(failure);
  }
}
