// A session that listens and plays nothing: a recording as fast as the server takes it, or a microphone whose people are
// told apart without a sound back. What comes is given away; who plays it, and when, is somebody else's affair.

import type { Ready, Start } from "../../../client/codec";
import { Latency } from "../../../client/latency";
import { Session } from "../../../client/session";
import type { Connect } from "../../../client/socket";
import type { Source } from "../../../client/source";
import { Timeline } from "../../../client/turns";
import type { Figures, Line, LineEvents } from "./line";
import type { Wanted } from "./live";

const AGAIN = 25; // ms until a full send buffer is looked at again

export class Hearing implements Line {
  readonly peaks = null;
  ready: Ready | null = null;
  private readonly session: Session;
  private readonly timeline: Timeline;
  private readonly latency: Latency;
  private toTurn: number | null = null; // live: seconds from the capture of a sample to knowing who spoke it
  private timer: ReturnType<typeof setInterval> | undefined;
  private paused = false;

  constructor(
    private readonly context: AudioContext, private readonly source: Source, connect: Connect, wanted: Wanted,
    private readonly on: LineEvents,
  ) {
    const rate = context.sampleRate;
    this.timeline = new Timeline(rate);
    this.latency = new Latency(source.live ? 1 / rate : 0);
    const start: Start = { type: "start", ...wanted, rate, channels: source.channels, format: "s16le", live: source.live };
    this.session = new Session(connect, start, {
      ready: (ready) => this.begin(ready),
      stems: (chunk) => {
        this.latency.arrived(chunk.start, this.now);
        this.latency.forget(chunk.start);
        on.stems(chunk);
      },
      speakers: (told) => {
        this.timeline.take(told);
        const born = this.latency.timeOf(told.told - 1);
        if (source.live && born !== null) this.toTurn = this.now - born;
        if (this.ready?.stems.length === 0) this.latency.forget(told.told);
        on.speakers(this.timeline);
      },
      stats: () => on.moved(),
      notice: (text) => on.notice(text),
      away: () => on.away(true),
      back: () => on.away(false),
      done: () => {
        this.rest();
        on.done();
      },
      failed: (failure) => {
        this.rest();
        on.failed(failure);
      },
    });
  }

  get told(): number {
    return this.session.told;
  }

  get sent(): number {
    return this.session.sent;
  }

  get position(): number {
    return Math.max(this.session.told, this.timeline.told);
  }

  get figures(): Figures {
    const { median, worst } = this.latency;
    const [arrival, most, turn] = [median, worst, this.toTurn].map((seconds) => (seconds === null ? null : seconds * 1000));
    return { arrival, worst: most, ear: null, turn };
  }

  setGains(): void {}

  mark(): Promise<number> {
    return this.session.mark();
  }

  setPaused(paused: boolean): void {
    this.paused = paused;
    this.source.setPaused(paused || this.ready === null);
  }

  /** No more is sent; the rest comes, and `done`. */
  end(): void {
    this.rest();
    this.session.end();
  }

  close(): void {
    this.rest();
    this.session.close();
  }

  private get now(): number {
    return this.source.live ? this.context.currentTime : performance.now() / 1000;
  }

  private begin(ready: Ready): void {
    this.ready = ready;
    this.setPaused(this.paused);
    this.on.ready(ready);
    this.source.onblock = () => this.pump();
    this.timer = setInterval(() => this.pump(), AGAIN);
  }

  private pump(): void {
    const { session, source } = this;
    while (session.room) {
      const block = source.take();
      if (block === null) break;
      this.latency.sent(session.sent, block.time ?? this.now);
      session.send(block.planes);
    }
    if (session.sent === source.length) this.end();
  }

  private rest(): void {
    clearInterval(this.timer);
    this.source.onblock = () => {};
    this.source.close();
  }
}
