// One session over as many connections as it takes. Reading never waits for writing: messages are handled as they come, and
// `room` says when more may be written. The browser takes any amount into its send buffer, so the bound on `buffered` is
// ours to keep. When a connection is lost, another one goes on with the session: no gap, no repeat (docs/protocol.md).

import { type Chunk, type FromServer, type Gains, type Ready, type Start, type Stats, decode, encode, pack, unpack } from "./codec";
import { Failure, asFailure, fromClose, fromServer } from "./errors";
import { Joint } from "./joint";
import { Patience } from "./patience";
import { Sent } from "./sent";
import type { Connect, Socket } from "./socket";
import type { Told } from "./turns";

export interface Handlers {
  ready(ready: Ready): void; // once
  stems(chunk: Chunk): void;
  speakers(told: Told): void; // ids stay the same over connections that break
  stats(stats: Stats): void;
  notice(text: string): void;
  draining?(deadline: number): void; // ms: the server goes away, and the session with it after so long at the latest
  away(): void; // the connection is lost, another one is looked for
  back(): void; // and was found
  done(samples: number): void; // all stems have come
  failed(failure: Failure): void; // nothing more will come
}

const HIGH_WATER = 256 * 1024; // bytes waiting in the browser: 1.4 s of 48 kHz stereo s16le
const OPENINGS = 5; // further tries of a server that is full and says when to come again
const NO_ANSWER = 10_000; // ms for one try of going on; the first `ready` may wait for a model to be fetched
const LATER = new Set(["capacity", "too_many", "draining"]); // refusals that pass
const PASSING = new Set([...LATER, "internal", "lost", "unreachable"]); // ends of a connection that a session survives

export class Session {
  told = 0; // samples: every stem is here before this index; without stems, all is told before it
  ready: Ready | null = null;
  away = false;
  resumes = 0;
  private socket: Socket | null = null;
  private token: string | undefined;
  private over = false;
  private readonly said = new Sent();
  private readonly joint = new Joint();
  private gains: Gains | null = null; // of the server's mix, as they were changed last
  private openings = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly connect: Connect,
    private readonly start: Start,
    private readonly on: Handlers,
    private readonly patience = new Patience(),
  ) {
    void this.dial();
  }

  /** Samples. */
  get sent(): number {
    return this.said.samples;
  }

  get buffered(): number {
    return this.socket?.bufferedAmount ?? 0;
  }

  get room(): boolean {
    return this.ready !== null && !this.away && !this.over && !this.said.ended && this.buffered < HIGH_WATER;
  }

  send(planes: readonly Float32Array[]): void {
    this.say(this.said.add(pack(planes, this.start.format), planes[0].length));
  }

  /** Resolves with the mark's sample when all audio sent before it has come back. Not after `end`: the protocol forbids it. */
  mark(): Promise<number> {
    if (this.ready === null || this.said.ended || this.over) return Promise.reject(new Error("no session is open for a mark"));
    return new Promise((resolve) => this.say(this.said.mark(resolve)));
  }

  /** Of `output: mix`: the server turns, from its next sample on. Sources that are not named keep theirs. */
  setGains(gains: Gains): void {
    if (this.ready === null || this.said.ended || this.over) throw new Error("no session is open for gains");
    this.gains = { ...this.gains, ...gains };
    this.say(encode({ type: "gains", gains }));
  }

  /** No more audio; the rest of the stems and `done` follow. */
  end(): void {
    if (!this.said.ended && !this.over) this.say(this.said.end());
  }

  /** Leave now; what has not come is abandoned. */
  close(): void {
    this.over = true;
    this.drop();
  }

  private say(data: string | ArrayBuffer): void {
    if (!this.away) this.socket?.send(data); // else it goes with the replay
  }

  private async dial(): Promise<void> {
    if (this.away) this.timer = setTimeout(() => this.broken(fromClose(1006, "no answer", true)), NO_ANSWER);
    const turn = this.timer;
    try {
      const socket = await this.connect();
      if (this.over || turn !== this.timer) socket.close(1000);
      else this.attach(socket);
    } catch (error) {
      if (!this.over && turn === this.timer) this.broken(asFailure(error));
    }
  }

  private attach(socket: Socket): void {
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    const { token, told } = this;
    const first = this.away && token !== undefined ? ({ type: "resume", token, received: told } as const) : this.start;
    socket.onopen = () => socket.send(encode(first));
    socket.onmessage = (event) => void (socket === this.socket && this.receive(event.data));
    socket.onclose = (event) => void (socket === this.socket && this.broken(fromClose(event.code, event.reason, this.ready !== null)));
  }

  private drop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { socket } = this;
    this.socket = null; // whatever it still says is not heard
    socket?.close(1000);
  }

  private receive(data: unknown): void {
    try {
      if (data instanceof ArrayBuffer) this.takeStems(unpack(data));
      else this.takeText(String(data));
    } catch (error) {
      this.fail(asFailure(error));
    }
  }

  private takeStems(chunk: Chunk): void {
    const { ready } = this;
    if (ready === null || this.away) throw new Error("got stems before ready");
    if (chunk.stems !== ready.stems.length || chunk.channels !== ready.channels) {
      throw new Error(`got ${chunk.stems} x ${chunk.channels} planes, ready said ${ready.stems.length} x ${ready.channels}`);
    }
    if (chunk.start !== this.told) throw new Error(`got stems from sample ${chunk.start}, expected ${this.told}`);
    this.advance(this.told + chunk.frames);
    if (chunk.frames > 0) this.on.stems(chunk);
  }

  private advance(told: number): void {
    this.told = told;
    this.said.forget(this.token === undefined ? this.sent : told - (this.ready?.resume_samples ?? 0));
  }

  private who(told: Told | null): void {
    if (told !== null) this.on.speakers(told);
  }

  private takeText(text: string): void {
    const message = decode(text);
    if (message === null) return;
    if (message.type === "ready") this.begin(message);
    else if (message.type === "stats") {
      this.token = message.resume ?? this.token;
      if (this.ready?.stems.length === 0) this.advance(Math.min(Math.max(this.told, message.told), this.sent));
      this.on.stats(message);
    } else if (message.type === "speakers") this.who(this.joint.take(message));
    else if (message.type === "draining") this.on.draining?.(message.deadline_ms);
    else if (message.type === "mark") this.said.came(message.id, message.sample);
    else if (message.type === "done") {
      this.close();
      if (this.ready?.stems.length === 0) this.told = message.samples;
      this.who(this.joint.end());
      this.on.done(message.samples);
    } else if (message.type === "error") this.complaint(message);
  }

  private begin(ready: Ready): void {
    const before = this.ready;
    if (before !== null && !this.away) throw new Error("got a second ready");
    clearTimeout(this.timer);
    this.ready = ready;
    this.token = ready.resume;
    if (before === null) return this.on.ready(ready);
    if (ready.session !== before.session) throw new Error(`got session ${ready.session}, expected ${before.session}`);
    const from = ready.replay_from ?? 0;
    if (from > this.told) throw new Error(`got a replay from sample ${from}, expected at most ${this.told}`);
    this.away = false;
    this.joint.broken();
    if (this.gains !== null) this.say(encode({ type: "gains", gains: this.gains }));
    for (const message of this.said.since(from)) this.say(message);
    this.resumes += 1;
    this.on.back();
  }

  private complaint({ code, message, fatal, retry_after_ms }: FromServer & { type: "error" }): void {
    if (!fatal) return this.on.notice(message);
    const failure = fromServer(code, message);
    const inside = this.ready !== null && !this.away;
    if (inside && code !== "draining") this.fail(failure);
    else if (this.ready === null && LATER.has(code) && retry_after_ms !== undefined) this.openLater(failure, retry_after_ms);
    else this.broken(failure, retry_after_ms);
  }

  private openLater(failure: Failure, wait: number): void {
    if (this.openings === OPENINGS) return this.fail(failure);
    this.openings += 1;
    this.drop();
    this.on.notice(`${failure.message} Trying again in ${Math.ceil(wait / 1000)} s (${this.openings} of ${OPENINGS}).`);
    this.timer = setTimeout(() => void this.dial(), wait);
  }

  /** This connection is over: `failure` is the session's own, unless it can go on over another. */
  private broken(failure: Failure, least = 0): void {
    this.drop();
    if (this.token === undefined || !PASSING.has(failure.code)) return this.fail(failure);
    const wait = this.patience.wait(performance.now(), this.told, least);
    if (wait === null) return this.fail(gone(this.patience.seconds));
    this.timer = setTimeout(() => void this.dial(), wait);
    if (this.away) return;
    this.away = true;
    this.on.away();
  }

  private fail(failure: Failure): void {
    if (this.over) return;
    this.close();
    this.on.failed(failure);
  }
}

const gone = (seconds: number): Failure =>
  new Failure(`The connection was lost, and could not be made again within ${seconds} s.`, "Check the network and try again.", "lost");
