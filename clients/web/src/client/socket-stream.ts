// A stream over one WebSocket: every stem in one message and on one clock, played by one worklet (run.ts, player.ts).

import { socketUrl } from "./address";
import type { Gains, Ready } from "./codec";
import { Emitter } from "./emitter";
import { Failure } from "./errors";
import { asSource } from "./inputs";
import type { Token } from "./peer-signalling";
import { Run, type Wanted } from "./run";
import { connector } from "./socket";
import type { Source } from "./source";
import { Desk, type Stem } from "./stem";
import type { ConnectOptions, LatencyFigures, Stream, StreamEvents, StreamStats } from "./stream";

const milliseconds = (seconds: number | null): number | null => (seconds === null ? null : seconds * 1000);

export class SocketStream implements Stream {
  readonly transport = "websocket";
  readonly output: GainNode;
  ready!: Ready; // before anybody is given the stream
  paused = false;
  private desk = new Desk([], 1, () => {});
  private readonly events = new Emitter<StreamEvents>();
  private readonly run: Run;
  private ended = false;
  private opened: () => void = () => {};
  private refused: (failure: Failure) => void = () => {};

  /** Resolves when the server is ready; rejects with a Failure. */
  static async open(context: AudioContext, options: ConnectOptions, wanted: Wanted, token: Token): Promise<SocketStream> {
    let gone = (): void => {};
    const source = await asSource(context, options.source, () => gone());
    const stream = new SocketStream(context, source, options, wanted, token);
    gone = () => stream.end();
    options.signal?.addEventListener("abort", () => stream.close());
    await new Promise<void>((resolve, reject) => ([stream.opened, stream.refused] = [resolve, reject]));
    return stream;
  }

  private constructor(readonly context: AudioContext, source: Source, options: ConnectOptions, wanted: Wanted, token: Token) {
    this.output = new GainNode(context);
    const { events } = this;
    if (options.notice) events.on("notice", options.notice);
    this.run = new Run(context, this.output, source, connector(socketUrl(options.url), token), wanted, {
      ready: (ready) => this.begin(ready),
      report: () => this.progress(),
      stems: (chunk) => events.emit("stems", chunk),
      speakers: (timeline) => events.emit("speakers", timeline),
      stats: () => events.emit("stats", this.stats),
      notice: (text) => events.emit("notice", text),
      draining: (deadline) => events.emit("draining", deadline),
      away: (away) => events.emit("away", away),
      done: (samples) => events.emit("done", samples),
      failed: (failure) => this.fail(failure),
    });
  }

  get stems(): readonly Stem[] {
    return this.desk.stems;
  }

  get timeline() {
    return this.run.timeline;
  }

  get away(): boolean {
    return this.run.session.away && !this.run.failed;
  }

  get position(): number {
    return this.run.report?.position ?? 0;
  }

  get sent(): number {
    return this.run.session.sent;
  }

  get told(): number {
    return this.run.session.told;
  }

  get latency(): LatencyFigures {
    const { latency, toEar, toTurn } = this.run;
    const [arrival, worst, ear, turn] = [latency.median, latency.worst, toEar, toTurn].map(milliseconds);
    return { declared: this.ready.latency_ms, arrival, worst, ear, turn };
  }

  get stats(): StreamStats {
    return { server: this.run.stats, player: this.run.report, media: null, network: null };
  }

  on<Name extends keyof StreamEvents>(name: Name, listener: (value: StreamEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  play(): void {
    this.paused = false;
    void this.context.resume();
    this.run.setPaused(false);
  }

  pause(): void {
    this.paused = true;
    this.run.setPaused(true);
  }

  mark(): Promise<number> {
    return this.run.session.mark();
  }

  setGains(gains: Gains): void {
    this.run.session.setGains(gains);
  }

  end(): void {
    this.run.end();
  }

  close(): void {
    this.run.close();
    this.refused(new Failure("The stream was closed.", "Connect again.", "closed"));
    setTimeout(() => this.output.disconnect(), 300); // the player fades out first
  }

  private begin(ready: Ready): void {
    this.ready = ready;
    this.desk = new Desk(ready.stems, ready.channels, (gains) => this.run.setGains(gains));
    this.opened();
  }

  private progress(): void {
    const { report } = this.run;
    if (report === null) return;
    this.stems.forEach((stem, i) => (stem.level = report.peaks[i]));
    this.events.emit("progress", this);
    if (report.phase !== "ended" || this.ended) return;
    this.ended = true;
    this.events.emit("ended", report.position);
  }

  private fail(failure: Failure): void {
    this.refused(failure); // no matter, once it is open
    this.events.emit("failed", failure);
  }
}
