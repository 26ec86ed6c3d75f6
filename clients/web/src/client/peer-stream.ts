// A stream over WebRTC: a track a stem, each with its own jitter buffer in the browser. A connection that is lost is a session
// that is lost: connecting again begins a new one.

import { type Gains, type Media, type Ready, type Stats, decode, encode } from "./codec";
import { Emitter } from "./emitter";
import { Failure, asFailure, fromServer } from "./errors";
import { type Sending, asTrack } from "./inputs";
import { Call } from "./peer-call";
import { PeerDesk } from "./peer-desk";
import { type PeerStart, Signalling, type Terms, type Token } from "./peer-signalling";
import { PeerStats, sampleOf } from "./peer-stats";
import type { Stem } from "./stem";
import type { ConnectOptions, LatencyFigures, Stream, StreamEvents, StreamStats } from "./stream";
import { Timeline } from "./turns";

const RATE = 48_000;
const REPORT = 33; // ms
const JITTER = 40; // ms
const FADE = 0.005; // s; a time constant
const PATIENCE = 1000; // ms, with a server that is told of the end

export class PeerStream implements Stream {
  readonly transport = "webrtc";
  readonly output: GainNode;
  readonly timeline = new Timeline(RATE);
  ready!: Ready; // before anybody is given the stream
  paused = false;
  away = false;
  told = 0;
  private readonly desk: PeerDesk;
  private readonly events = new Emitter<StreamEvents>();
  private readonly figures = new PeerStats();
  private readonly marks = new Map<string, (sample: number) => void>();
  private server: Stats | null = null;
  private media: Media | null = null;
  private ear: number | null = null; // ms
  private call!: Call;
  private sending!: Sending;
  private ticks = 0;
  private timer: ReturnType<typeof setInterval> | undefined;
  private over = false;
  private finished: number | null = null; // samples, when all was told
  private marked = 0;
  private opened: () => void = () => {};
  private refused: (failure: Failure) => void = () => {};

  /** `outputs`: at least as many as the session will have. Resolves when the server is ready; rejects with a Failure. */
  static async open(context: AudioContext, options: ConnectOptions, start: PeerStart, token: Token, outputs: number): Promise<PeerStream> {
    const signalling = new Signalling(options.url, token, options.signal);
    const terms = await signalling.terms();
    if (outputs > terms.most_tracks) {
      const advice = "Ask for fewer stems, or use a WebSocket.";
      throw new Failure(`Got ${outputs} stems, this server sends at most ${terms.most_tracks} over WebRTC.`, advice, "too_large");
    }
    let gone = (): void => {};
    const sending = await asTrack(context, options.source, () => gone());
    const stream = new PeerStream(context, options, signalling);
    gone = () => stream.end();
    options.signal?.addEventListener("abort", () => stream.close());
    await stream.begin(terms, sending, outputs, start).catch((error: unknown) => {
      stream.close();
      throw asFailure(error);
    });
    return stream;
  }

  private constructor(readonly context: AudioContext, private readonly options: ConnectOptions, private readonly signalling: Signalling) {
    this.output = new GainNode(context);
    this.desk = new PeerDesk(context, this.output);
  }

  private async begin(terms: Terms, sending: Sending, outputs: number, start: PeerStart): Promise<void> {
    const ready = new Promise<void>((resolve, reject) => ([this.opened, this.refused] = [resolve, reject]));
    ready.catch(() => {}); // whoever dials is told first
    this.sending = sending;
    this.call = new Call(terms, sending, Math.max(1, outputs), {
      said: (text) => this.hear(text),
      away: (away) => this.events.emit("away", (this.away = away)),
      over: (failure) => (this.finished === null ? this.fail(failure) : this.leave()),
    });
    this.call.pc.ontrack = ({ transceiver }) => this.welcome(transceiver);
    await this.call.dial(this.signalling, start);
    await ready;
    this.timer = setInterval(() => this.tick(), REPORT);
  }

  get stems(): readonly Stem[] {
    return this.desk.stems;
  }

  get position(): number {
    return Math.max(0, Math.round(this.heard() ?? 0));
  }

  get sent(): number {
    return Math.round(this.figures.sent);
  }

  get latency(): LatencyFigures {
    const waited = this.figures.network?.jitterBuffer ?? 0;
    const device = 1000 * (this.context.outputLatency || 0);
    const arrival = this.ear === null ? null : Math.max(0, this.ear - waited - device);
    return { declared: this.ready.latency_ms, arrival, worst: null, ear: this.ear, turn: null };
  }

  get stats(): StreamStats {
    return { server: this.server, player: null, media: this.media, network: this.figures.network };
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
    const id = `m${this.marked++}`;
    return new Promise((resolve) => {
      this.call.say(encode({ type: "mark", id }));
      this.marks.set(id, resolve);
    });
  }

  setGains(gains: Gains): void {
    this.call.say(encode({ type: "gains", gains }));
  }

  end(): void {
    if (!this.over && this.finished === null) this.call.say(encode({ type: "end" }));
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
      this.told = Math.max(this.told, message.told);
      this.server = message;
      this.events.emit("stats", this.stats);
    } else if (message?.type === "media") this.media = message;
    else if (message?.type === "speakers") {
      this.timeline.take(message);
      this.events.emit("speakers", this.timeline);
    } else if (message?.type === "mark") {
      this.marks.get(message.id)?.(message.sample);
      this.marks.delete(message.id);
    } else if (message?.type === "draining") this.events.emit("draining", message.deadline_ms);
    else if (message?.type === "done") this.events.emit("done", (this.told = this.finished = message.samples));
    else if (message?.type === "error" && message.fatal) this.fail(fromServer(message.code, message.message));
    else if (message?.type === "error") this.events.emit("notice", message.message);
  }

  private start(ready: Ready): void {
    if (this.ready) throw new Error("got a second ready");
    this.ready = ready;
    this.desk.name(ready.stems, ready.channels, ready.tracks ?? []);
    this.opened();
  }

  private tick(): void {
    this.ticks += 1;
    this.desk.listen();
    if (this.ticks % 8 === 0) void this.measure();
    this.events.emit("progress", this);
  }

  private async measure(): Promise<void> {
    const rows = [...(await this.call.pc.getStats()).values()];
    if (this.over) return;
    this.figures.take(rows);
    // All jitter buffers aim at what the worst of them needs: stems that wait differently are not together.
    const aim = Math.max(this.options.jitterBuffer ?? JITTER, this.figures.network?.needed ?? 0);
    for (const { receiver } of this.call.pc.getTransceivers()) receiver.jitterBufferTarget = Math.min(aim, 1000);
    const heard = this.heard();
    if (heard === null || this.figures.sent === 0) return;
    const device = this.context.outputLatency || 0;
    this.ear = (1000 * (this.figures.sent - heard)) / RATE + 1000 * device;
  }

  /** The session's sample that is leaving the jitter buffer now. */
  private heard(): number | null {
    const clock = this.media?.clock;
    const receiver = clock && this.call.pc.getTransceivers().find((one) => one.mid === clock.mid)?.receiver;
    const [last] = receiver?.getSynchronizationSources() ?? [];
    if (!clock || last === undefined) return null;
    const since = performance.timeOrigin + performance.now() - last.timestamp;
    return sampleOf(clock, last.rtpTimestamp) + (Math.min(200, Math.max(0, since)) * RATE) / 1000;
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
    this.output.gain.setTargetAtTime(0, this.context.currentTime, FADE);
    this.sending?.close();
    void Promise.race([told, new Promise((resolve) => setTimeout(resolve, PATIENCE))]).then(() => this.call?.close());
    setTimeout(() => {
      this.desk.close();
      this.output.disconnect();
    }, 100);
    if (this.finished !== null) this.events.emit("ended", this.finished);
  }
}
