// One WebSocket, one session. Reading never waits for writing: messages are handled as they come, and `room` says when
// more may be written. The browser takes any amount into its send buffer, so the bound on `buffered` is ours to keep.

import { type Chunk, type Ready, type Start, type Stats, PROTOCOL, decode, encode, pack, unpack } from "./codec";
import { type Failure, asFailure, fromClose, fromServer } from "./errors";

export interface Handlers {
  ready(ready: Ready): void;
  stems(chunk: Chunk): void;
  stats(stats: Stats): void;
  notice(text: string): void;
  done(samples: number): void; // all stems have come
  failed(failure: Failure): void; // nothing more will come
}

/** The part of WebSocket that is used, so that a test can stand in for it. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  send(data: string | ArrayBuffer): void;
  close(code?: number): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
}

const HIGH_WATER = 256 * 1024; // bytes waiting in the browser: 1.4 s of 48 kHz stereo s16le

export class Session {
  sent = 0; // samples
  told = 0; // samples: every stem is here before this index
  ready: Ready | null = null;
  private over = false;
  private ended = false;
  private marks = new Map<string, (sample: number) => void>();
  private nextMark = 0;

  constructor(private readonly socket: Socket, private readonly start: Start, private readonly on: Handlers) {
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(encode(start));
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.fail(fromClose(event.code, event.reason, this.ready !== null));
  }

  static open(url: string, start: Start, on: Handlers): Session {
    return new Session(new WebSocket(url, PROTOCOL) as unknown as Socket, start, on);
  }

  get buffered(): number {
    return this.socket.bufferedAmount;
  }

  get room(): boolean {
    return this.ready !== null && !this.over && !this.ended && this.buffered < HIGH_WATER;
  }

  send(planes: readonly Float32Array[]): void {
    this.socket.send(pack(planes, this.start.format));
    this.sent += planes[0].length;
  }

  /** Resolves with the mark's sample when all audio sent before it has come back. Not after `end`: the protocol forbids it. */
  mark(): Promise<number> {
    if (this.ready === null || this.ended || this.over) return Promise.reject(new Error("no session is open for a mark"));
    const id = `m${this.nextMark++}`;
    return new Promise((resolve) => {
      this.marks.set(id, resolve);
      this.socket.send(encode({ type: "mark", id }));
    });
  }

  /** No more audio; the rest of the stems and `done` follow. */
  end(): void {
    if (this.ended || this.over) return;
    this.ended = true;
    this.socket.send(encode({ type: "end" }));
  }

  /** Leave now; what has not come is abandoned. */
  close(): void {
    this.over = true;
    this.socket.close(1000);
  }

  private receive(data: unknown): void {
    if (this.over) return;
    try {
      if (data instanceof ArrayBuffer) this.takeStems(unpack(data));
      else this.takeText(String(data));
    } catch (error) {
      this.fail(asFailure(error));
      this.socket.close(1000);
    }
  }

  private takeStems(chunk: Chunk): void {
    const { ready } = this;
    if (ready === null) throw new Error("got stems before ready");
    if (chunk.stems !== ready.stems.length || chunk.channels !== ready.channels) {
      throw new Error(`got ${chunk.stems} x ${chunk.channels} planes, ready said ${ready.stems.length} x ${ready.channels}`);
    }
    if (chunk.start !== this.told) throw new Error(`got stems from sample ${chunk.start}, expected ${this.told}`);
    this.told += chunk.frames;
    if (chunk.frames > 0) this.on.stems(chunk);
  }

  private takeText(text: string): void {
    const message = decode(text);
    if (message === null) return;
    if (message.type === "ready") this.on.ready((this.ready = message));
    else if (message.type === "stats") this.on.stats(message);
    else if (message.type === "mark") this.marks.get(message.id)?.(message.sample);
    else if (message.type === "done") {
      this.over = true;
      this.on.done(message.samples);
    } else if (message.fatal) this.fail(fromServer(message.code, message.message));
    else this.on.notice(message.message);
  }

  private fail(failure: Failure): void {
    if (this.over) return;
    this.over = true;
    this.on.failed(failure);
  }
}
