// A stream over WebRTC: a track a stem, each with its own jitter buffer in the browser. A connection that is lost is a session
// that is lost; another call takes the stream up with a new one (peer-redial.ts). Its samples are counted on from those that had
// gone up: what was under way is lost, and the server begins anew.

import { type Gains, type Ready, type Stats, decode, encode } from "./codec";
import { Emitter } from "./emitter";
import { Failure, asFailure, fromServer } from "./errors";
import { type Sending, asTrack } from "./inputs";
import { Call } from "./peer-call";
import { PeerDesk } from "./peer-desk";
import { Measure } from "./peer-measure";
import { Redial } from "./peer-redial";
import { type PeerStart, Signalling, type Terms, type Token } from "./peer-signalling";
import { Chapters } from "./peer-turns";
import type { Stem } from "./stem";
import type { ConnectOptions, LatencyFigures, Stream, StreamEvents, StreamStats } from "./stream";
import { Timeline } from "./turns";

const RATE = 48_000;
const REPORT = 33; // ms
const JITTER = 40; // ms
const FADE = 0.005; // s; a time constant
const PATIENCE = 1000; // ms, with a server that is told of the end
const AGAIN = "The connection was lost and made again: it is a new session, and what was played in between was not heard by the server.";
const STRANGERS = " Who is who begins anew: people may come on other tracks than before.";

export class PeerStream implements Stream {
  readonly transport = "webrtc";
  readonly output: GainNode;
  readonly timeline = new Timeline(RATE);
  ready!: Ready; // before anybody is given the stream
  paused = false;
  told = 0;
  private readonly desk: PeerDesk;
  private readonly events = new Emitter<StreamEvents>();
  private readonly redial: Redial;
  private readonly chapters = new Chapters();
  private readonly marks = new Map<string, (sample: number) => void>();
  private server: Stats | null = null;
  private terms: Terms | null = null; // for the first call
  private call: Call | null = null;
  private measure: Measure | null = null; // of that call
  private origin = 0; // samples of the sessions before this one
  private still = 0; // the position while nothing is heard
  private sounding = false; // what is sent has begun
  private ending = false;
  private ticks = 0;
  private timer: ReturnType<typeof setInterval> | undefined;
  private over = false;
  private finished: number | null = null; // samples, when all was told
  private marked = 0;
  private opened: () => void = () => {}; // by the server's `ready`: the call that is dialled
  private begun: () => void = () => {}; // by the first of them: the stream
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
    const stream = new PeerStream(context, options, signalling, sending, start, Math.max(1, outputs));
    stream.terms = terms;
    gone = () => stream.end();
    options.signal?.addEventListener("abort", () => stream.close());
    await stream.begin();
    return stream;
  }

  private constructor(
    readonly context: AudioContext, private readonly options: ConnectOptions, private readonly signalling: Signalling,
    private readonly sending: Sending, private wanted: PeerStart, private readonly outputs: number,
  ) {
    this.output = new GainNode(context);
    this.desk = new PeerDesk(context, this.output);
    this.redial = new Redial((signal) => this.dial(signal), () => this.told, {
      away: () => this.events.emit("away", true),
      lost: () => this.lost(),
      back: (again) => this.back(again),
      notice: (text) => this.events.emit("notice", text),
      failed: (failure) => this.fail(failure),
    });
  }

  private async begin(): Promise<void> {
    const ready = new Promise<void>((resolve, reject) => ([this.begun, this.refused] = [resolve, reject]));
    if (this.options.signal?.aborted) this.close();
    else void this.redial.start();
    await ready;
    this.timer = setInterval(() => this.tick(), REPORT);
  }

  /** Resolves when the server is ready. What goes wrong, now or later, is the redial's. */
  private async dial(signal: AbortSignal): Promise<void> {
    const terms = this.terms ?? (await this.signalling.terms(signal)); // what they say of TURN is good for a while only
    this.terms = null;
    if (signal.aborted) return;
    const ready = new Promise<void>((resolve) => (this.opened = resolve));
    const call: Call = new Call(terms, this.sending, this.outputs, {
      said: (text) => void (call === this.call && this.hear(text)),
      up: () => this.sound(),
      falters: (yes) => void (call === this.call && this.redial.falters(yes)),
      over: (failure) => void (call === this.call && this.hungUp(failure)),
    });
    [this.call, this.measure] = [call, this.measuring(call)];
    signal.addEventListener("abort", () => void (this.over || call.close())); // else it is closed when the server knows
    call.pc.ontrack = ({ transceiver }) => void (call === this.call && this.welcome(transceiver));
    await call.dial(this.signalling, this.wanted, signal);
    await ready;
    this.begun();
  }

  private measuring({ pc }: Call): Measure {
    return new Measure(pc, this.options.jitterBuffer ?? JITTER, (mid, seconds) => this.desk.hold(mid, seconds));
  }

  get stems(): readonly Stem[] {
    return this.desk.stems;
  }

  get away(): boolean {
    return this.redial.away && !this.over;
  }

  get position(): number {
    const heard = this.measure?.heard ?? null;
    return heard === null ? this.still : Math.max(0, this.origin + Math.round(heard));
  }

  get sent(): number {
    return this.origin + Math.round(this.measure?.figures.sent ?? 0);
  }

  get latency(): LatencyFigures {
    const { ear = null, figures = null } = this.measure ?? {};
    const waited = figures?.network?.jitterBuffer ?? 0;
    const device = 1000 * (this.context.outputLatency || 0);
    const arrival = ear === null ? null : Math.max(0, ear - waited - device);
    return { declared: this.ready.latency_ms, arrival, worst: null, ear, turn: null };
  }

  get stats(): StreamStats {
    const { media = null, figures = null } = this.measure ?? {};
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

  /** One that is under way while the connection is lost comes with the next: what was sent before it has come, or never will. */
  mark(): Promise<number> {
    const id = `m${this.marked++}`;
    return new Promise((resolve) => {
      this.marks.set(id, resolve);
      this.call?.say(encode({ type: "mark", id }));
    });
  }

  setGains(gains: Gains): void {
    this.wanted = { ...this.wanted, gains: { ...this.wanted.gains, ...gains } }; // which the next session begins with
    this.call?.say(encode({ type: "gains", gains }));
  }

  end(): void {
    if (this.over || this.ending) return;
    if (!this.ready) return this.close();
    this.ending = true;
    if (this.call?.say(encode({ type: "end" }))) return;
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

  private welcome({ mid, receiver }: RTCRtpTransceiver): void {
    if (mid === null) return;
    receiver.jitterBufferTarget = this.options.jitterBuffer ?? JITTER; // the same for all: they play side by side
    this.desk.welcome(mid, receiver.track);
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
      this.told = Math.max(this.told, this.origin + message.told);
      this.server = message;
      this.events.emit("stats", this.stats);
    } else if (message?.type === "media" && this.measure) this.measure.media = message;
    else if (message?.type === "speakers") {
      this.timeline.take(this.chapters.take(message));
      this.events.emit("speakers", this.timeline);
    } else if (message?.type === "mark") {
      this.marks.get(message.id)?.(this.origin + message.sample);
      this.marks.delete(message.id);
    } else if (message?.type === "draining") this.events.emit("draining", message.deadline_ms);
    else if (message?.type === "done") this.done(this.origin + message.samples);
    else if (message?.type === "error" && message.fatal) this.complaint(fromServer(message.code, message.message), message.retry_after_ms);
    else if (message?.type === "error") this.events.emit("notice", message.message);
  }

  /** A server that goes away takes its sessions with it; there may be another, or the next. */
  private complaint(failure: Failure, wait?: number): void {
    if (failure.code === "draining" && !this.ending) this.redial.lost(failure, wait);
    else this.fail(failure);
  }

  private start(ready: Ready): void {
    if (this.ready?.session === ready.session) throw new Error("got a second ready");
    this.desk.name(ready.stems, ready.channels, ready.tracks ?? []);
    this.ready = ready;
    for (const id of this.marks.keys()) this.call?.say(encode({ type: "mark", id }));
    this.opened();
  }

  private done(samples: number): void {
    this.told = this.finished = samples;
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
    else this.redial.lost(failure);
  }

  /** The call is over, and its session with it. */
  private lost(): void {
    this.still = this.position;
    this.origin = Math.max(this.sent, this.told, this.still);
    this.measure?.close();
    this.call = this.measure = null;
    this.desk.close();
    const changed = this.chapters.broken(this.origin);
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
    if (this.ticks % 8 === 0) void this.measure?.take(this.context.outputLatency || 0);
    this.events.emit("progress", this);
  }

  private fail(failure: Failure): void {
    if (this.over) return;
    this.leave(this.signalling.hangUp());
    this.refused(failure); // no matter, once it is open
    this.events.emit("failed", failure);
  }

  /** `told`: the server knows. It is told first: a session whose peer has gone away is one that it no longer finds. */
  private leave(told: Promise<void> = Promise.resolve()): void {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    this.measure?.close();
    this.redial.close();
    this.output.gain.setTargetAtTime(0, this.context.currentTime, FADE);
    this.sending.close();
    void Promise.race([told, new Promise((resolve) => setTimeout(resolve, PATIENCE))]).then(() => this.call?.close());
    setTimeout(() => {
      this.desk.close();
      this.output.disconnect();
    }, 100);
    if (this.finished !== null) this.events.emit("ended", this.finished);
  }
}
