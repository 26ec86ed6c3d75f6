// A stream over WebRTC: a track a stem, each with its own jitter buffer in the browser. A connection that is lost is a session
// that is lost; another call takes the stream up with a new one (peer-line.ts, peer-redial.ts), and the server begins anew.

import { type Gains, type Ready, type Stats, decode, encode } from "./codec";
import { deviceDelay } from "./device";
import { Emitter } from "./emitter";
import { Failure, asFailure, fromServer } from "./errors";
import { type Sending, asTrack } from "./inputs";
import { PeerDesk } from "./peer-desk";
import { Line } from "./peer-line";
import { Marks } from "./peer-marks";
import { Reckoning } from "./peer-reckoning";
import { type PeerStart, Signalling, type Terms, type Token } from "./peer-signalling";
import { Chapters } from "./peer-turns";
import type { Stem } from "./stem";
import type { ConnectOptions, LatencyFigures, Stream, StreamEvents, StreamStats } from "./stream";
import { Timeline } from "./turns";

const RATE = 48_000;
const REPORT = 33; // ms
const JITTER = 40; // ms
const FADE = 0.005; // s; a time constant
const AGAIN = "The connection was lost and made again: it is a new session, and what was played in between was not heard by the server.";
const STRANGERS = " Who is who begins anew: people may come on other tracks than before.";

export class PeerStream implements Stream {
  readonly transport = "webrtc";
  readonly output: GainNode;
  readonly timeline = new Timeline(RATE);
  ready!: Ready; // before anybody is given the stream
  paused = false;
  private readonly desk: PeerDesk;
  private readonly events = new Emitter<StreamEvents>();
  private readonly line: Line;
  private readonly reckoning = new Reckoning(() => this.line.measure);
  private readonly chapters = new Chapters();
  private readonly marks = new Marks();
  private server: Stats | null = null;
  private sounding = false; // what is sent has begun
  private ending = false;
  private ticks = 0;
  private timer: ReturnType<typeof setInterval> | undefined;
  private over = false;
  private finished: number | null = null; // samples, when all was told
  private begun: () => void = () => {}; // by the first session
  private refused: (failure: Failure) => void = () => {};

  /** `outputs`: at least as many as the session will have. Resolves when the server is ready; rejects with a Failure. */
  static async open(context: AudioContext, options: ConnectOptions, start: PeerStart, token: Token, outputs: number): Promise<PeerStream> {
    const signalling = new Signalling(options.url, token);
    const terms = await signalling.terms(options.signal);
    if (outputs > terms.most_tracks) {
      const advice = "Ask for fewer stems, or use a WebSocket.";
      throw new Failure(`Got ${outputs} stems, this server sends at most ${terms.most_tracks} over WebRTC.`, advice, "too_large");
    }
    let gone = (): void => {};
    const sending = await asTrack(context, options.source, () => gone());
    const stream = new PeerStream(context, options, signalling, sending, start, Math.max(1, outputs), terms);
    gone = () => stream.end();
    options.signal?.addEventListener("abort", () => stream.close());
    await stream.begin(options.signal?.aborted ?? false);
    return stream;
  }

  private constructor(
    readonly context: AudioContext, options: ConnectOptions, private readonly signalling: Signalling, private readonly sending: Sending,
    private wanted: PeerStart, outputs: number, terms: Terms,
  ) {
    this.output = new GainNode(context);
    this.desk = new PeerDesk(context, this.output);
    const { events } = this;
    if (options.notice) events.on("notice", options.notice);
    const shape = { outputs, jitter: options.jitterBuffer ?? JITTER };
    this.line = new Line(signalling, sending, shape, terms, () => this.wanted, () => this.told, {
      begun: () => this.begun(),
      up: () => this.sound(),
      said: (text) => this.hear(text),
      track: (mid, track) => this.desk.welcome(mid, track),
      hold: (mid, seconds) => this.desk.hold(mid, seconds),
      over: (failure) => this.hungUp(failure),
      away: () => events.emit("away", true),
      lost: () => this.lost(),
      back: (again) => this.back(again),
      notice: (text) => events.emit("notice", text),
      failed: (failure) => this.fail(failure),
    });
  }

  private async begin(aborted: boolean): Promise<void> {
    const ready = new Promise<void>((resolve, reject) => ([this.begun, this.refused] = [resolve, reject]));
    if (aborted) this.close();
    else this.line.start();
    await ready;
    this.timer = setInterval(() => this.tick(), REPORT);
  }

  get stems(): readonly Stem[] {
    return this.desk.stems;
  }

  get away(): boolean {
    return this.line.away && !this.over;
  }

  get position(): number {
    return this.reckoning.position;
  }

  get sent(): number {
    return this.reckoning.sent;
  }

  get told(): number {
    return this.finished ?? this.reckoning.told;
  }

  get latency(): LatencyFigures {
    return this.reckoning.latency(this.ready.latency_ms, deviceDelay(this.context));
  }

  get stats(): StreamStats {
    const { media = null, figures = null } = this.line.measure ?? {};
    return { server: this.server, player: null, media, network: figures?.network ?? null };
  }

  on<Name extends keyof StreamEvents>(name: Name, listener: (value: StreamEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  play(): void {
    this.setPaused(false);
    void this.context.resume();
  }

  pause(): void {
    this.setPaused(true);
  }

  mark(): Promise<number> {
    return this.marks.ask((id) => this.line.say(encode({ type: "mark", id })));
  }

  setGains(gains: Gains): void {
    this.wanted = { ...this.wanted, gains: { ...this.wanted.gains, ...gains } }; // which the next session begins with
    this.line.say(encode({ type: "gains", gains }));
  }

  end(): void {
    if (this.over || this.ending) return;
    if (!this.ready) return this.close();
    this.ending = true;
    if (this.line.say(encode({ type: "end" }))) return;
    this.done(this.told); // the rest is lost
    this.leave();
  }

  close(): void {
    if (this.over) return;
    this.leave(this.signalling.hangUp());
    this.refused(new Failure("The stream was closed.", "Connect again.", "closed"));
  }

  /** Sound goes up as silence meanwhile: the session's time is that of the packets, which go on. */
  private setPaused(paused: boolean): void {
    this.paused = paused;
    this.sending.track.enabled = !paused;
    this.output.gain.setTargetAtTime(paused ? 0 : 1, this.context.currentTime, FADE);
  }

  private hear(text: string): void {
    try {
      this.take(text);
    } catch (error) {
      this.fail(asFailure(error));
    }
  }

  private take(text: string): void {
    const message = decode(text);
    if (message?.type === "ready") this.start(message);
    else if (message?.type === "stats") {
      this.reckoning.advance(message.told);
      this.server = message;
      this.events.emit("stats", this.stats);
    } else if (message?.type === "media" && this.line.measure) this.line.measure.media = message;
    else if (message?.type === "speakers") {
      this.timeline.take(this.chapters.take(message));
      this.events.emit("speakers", this.timeline);
    } else if (message?.type === "mark") this.marks.came(message.id, this.reckoning.at(message.sample));
    else if (message?.type === "draining") this.events.emit("draining", message.deadline_ms);
    else if (message?.type === "done") this.done(this.reckoning.at(message.samples));
    else if (message?.type === "error" && message.fatal) this.complaint(fromServer(message.code, message.message), message.retry_after_ms);
    else if (message?.type === "error") this.events.emit("notice", message.message);
  }

  /** A server that goes away takes its sessions with it; there may be another, or the next. */
  private complaint(failure: Failure, wait?: number): void {
    if (failure.code === "draining" && !this.ending) this.line.lost(failure, wait);
    else this.fail(failure);
  }

  private start(ready: Ready): void {
    if (this.ready?.session === ready.session) throw new Error("got a second ready");
    this.desk.name(ready.stems, ready.channels, ready.tracks ?? []);
    this.ready = ready;
    for (const id of this.marks.ids) this.line.say(encode({ type: "mark", id }));
    this.line.ready();
  }

  private done(samples: number): void {
    this.finished = samples;
    this.events.emit("done", samples);
  }

  /** The way is open: a file starts to play, once. */
  private sound(): void {
    if (!this.sounding) this.sending.begin();
    this.sounding = true;
  }

  private hungUp(failure: Failure): void {
    if (this.finished !== null) this.leave();
    else if (this.ending) this.fail(failure); // the rest is lost, and there is no sense in another call
    else this.line.lost(failure);
  }

  /** The call is over, and its session with it. */
  private lost(): void {
    this.desk.close();
    const changed = this.chapters.broken(this.reckoning.broken());
    if (changed === null) return;
    this.timeline.take(changed);
    this.events.emit("speakers", this.timeline);
  }

  private back(again: boolean): void {
    this.events.emit("away", false);
    if (again) this.events.emit("notice", AGAIN + (this.ready.mode === "speakers" ? STRANGERS : ""));
  }

  private tick(): void {
    this.ticks += 1;
    this.desk.listen();
    if (this.ticks % 8 === 0) void this.line.measure?.take(deviceDelay(this.context));
    this.events.emit("progress", this);
  }

  private fail(failure: Failure): void {
    if (this.over) return;
    this.leave(this.signalling.hangUp());
    this.refused(failure); // no matter, once it is open
    this.events.emit("failed", failure);
  }

  /** `told`: the server knows. */
  private leave(told: Promise<void> = Promise.resolve()): void {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    this.output.gain.setTargetAtTime(0, this.context.currentTime, FADE);
    this.sending.close();
    this.line.close(told);
    setTimeout(() => {
      this.desk.close();
      this.output.disconnect();
    }, 100);
    if (this.finished !== null) this.events.emit("ended", this.finished);
  }
}
