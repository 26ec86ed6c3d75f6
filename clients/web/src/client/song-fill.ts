// Fills a cache with the stems of a song, from where they are needed: a session at a time, ahead of the playhead, then whatever
// is missing. A part that is not the song's beginning begins LEAD earlier, so that a model which remembers has something to
// remember; what comes of that is only used for the cross-fade into what is there (song-cache.ts).

import type { Chunk, Ready, Start, Stats } from "./codec";
import type { Failure } from "./errors";
import { FileSource, type Song } from "./file";
import { Latency } from "./latency";
import { Session } from "./session";
import type { Connect } from "./socket";
import { type Cache, JOIN } from "./song-cache";
import type { Interval } from "./song-intervals";

const AHEAD = 8; // s before the playhead, where no more may be asked for than is played
const QUEUE = 10; // s that the server may have to work on: all of it would be in vain after a seek
const LEAD = 1; // s
const SOON = 2; // s: a session that gets there on its own so soon is not given up for a new one
const AGAIN = 3000; // ms after which a server that could not be reached is asked again
const PULSE = 50; // ms: the browser's send buffer empties without telling anybody
const PASSING = new Set(["unreachable", "lost", "draining", "capacity", "too_many", "internal"]);

/** Of the song, in samples: what is played next, parts that must not be late, and parts that may, each in order. */
export interface Aim {
  playhead: number;
  soon: readonly Interval[];
  later: readonly Interval[];
}

export type Wanted = Pick<Start, "model">;

export interface FillEvents {
  ready(ready: Ready): void; // of every session
  stats(stats: Stats): void;
  notice(text: string): void;
  away(away: boolean): void;
  failed(failure: Failure): void; // nothing more comes until `retry`
}

export class Fill {
  latency = new Latency(0); // of this session
  session: Session | null = null;
  ready: Ready | null = null;
  files = true; // whether the server takes this as a file, as fast as it can; else at the pace of the clock
  resumes = 0; // of sessions that are over
  sessions = 0;
  stopped = false; // by a failure, until `retry` or, where it may pass, for a while
  private goal = 0; // of this session: stems are wanted up to here
  private origin = 0; // its first sample
  private source: FileSource | null = null;
  private first = 0; // the sample of the song from which on its stems are taken
  private target: Aim = { playhead: 0, soon: [], later: [] };
  private readonly timer: ReturnType<typeof setInterval>;
  private again: ReturnType<typeof setTimeout> | undefined;

  /** `ready` gives the cache, when the stems are known. */
  constructor(
    private readonly song: Song,
    private readonly connect: Connect,
    private readonly wanted: Wanted,
    private readonly cache: () => Cache | null,
    private readonly on: FillEvents,
  ) {
    this.timer = setInterval(() => this.pump(), PULSE);
  }

  private get length(): number {
    return this.song.planes[0].length;
  }

  /** The next sample of the song to come from the session that is open. */
  get front(): number {
    return this.origin + (this.session?.told ?? 0);
  }

  get sent(): number {
    return this.session === null ? 0 : this.origin + this.session.sent;
  }

  aim(target: Aim): void {
    this.target = target;
    if (this.stopped) return;
    const urgent = this.missing(target.soon);
    const hole = urgent ?? this.missing(target.later);
    if (hole === null) return this.sleep();
    if (this.session === null || (urgent !== null && !this.arrives(urgent.start))) this.begin(hole.start);
    this.pump();
  }

  /** After a failure: a new session. */
  retry(): void {
    clearTimeout(this.again);
    this.stopped = false;
    this.aim(this.target);
  }

  close(): void {
    clearInterval(this.timer);
    clearTimeout(this.again);
    this.finish();
  }

  private missing(parts: readonly Interval[]): Interval | null {
    const held = this.cache()?.held;
    for (const { start, end } of parts) {
      const hole = held === undefined ? { start, end } : held.hole(start, end);
      if (hole !== null && hole.end > hole.start) return hole;
    }
    return null;
  }

  private arrives(at: number): boolean {
    const way = at - this.front;
    return way >= 0 && way <= SOON * this.song.rate && this.goal > at;
  }

  /** All that is wanted for now is here. A session with a part of the song still to come waits for the playhead. */
  private sleep(): void {
    if (this.cache()?.complete) this.finish();
  }

  private begin(at: number): void {
    this.finish();
    this.first = Math.max(0, at - JOIN);
    this.origin = Math.max(0, at - LEAD * this.song.rate);
    this.goal = Math.min(this.length, (this.cache()?.held.hole(at, this.length)?.end ?? this.length) + JOIN);
    this.source = new FileSource(this.song, this.origin);
    this.latency = new Latency(0);
    this.sessions += 1;
    const session = new Session(this.connect, this.start(), {
      ready: (ready) => {
        this.ready = ready;
        this.on.ready(ready);
        this.pump();
      },
      stems: (chunk) => session === this.session && this.take(chunk),
      speakers: () => {},
      stats: (stats) => this.on.stats(stats),
      notice: (text) => this.refused(session) || this.on.notice(text),
      away: () => this.on.away(true),
      back: () => {
        this.on.away(false);
        this.pump();
      },
      done: () => session === this.session && this.next(),
      failed: (failure) => session === this.session && this.fail(failure),
    });
    this.session = session;
  }

  private start(): Start {
    const { rate, planes } = this.song;
    const start: Start = { type: "start", ...this.wanted, rate, channels: planes.length, format: "s16le" };
    return this.files ? { ...start, live: false } : start;
  }

  private pump(): void {
    const { session, source } = this;
    if (session === null || source === null) return;
    const limit = this.limit + (this.ready?.latency_samples ?? 0);
    while (session.room && this.sent < limit) {
      const block = source.take();
      if (block === null) return session.end();
      this.latency.sent(session.sent, performance.now() / 1000);
      session.send(block.planes);
    }
  }

  /** The song is sent as far as its stems are wanted, and not much further than they have come. */
  private get limit(): number {
    const { playhead, later } = this.target;
    const { rate } = this.song;
    const horizon = Math.min(this.front + QUEUE * rate, Math.max(...later.map(({ end }) => end)));
    return this.files ? horizon : Math.min(horizon, playhead + AHEAD * rate);
  }

  private take(chunk: Chunk): void {
    this.latency.arrived(chunk.start, performance.now() / 1000);
    this.latency.forget(chunk.start);
    const start = this.origin + chunk.start;
    const skip = Math.max(0, this.first - start);
    if (skip < chunk.frames) this.cache()?.write(start + skip, chunk.planes.map((plane) => plane.subarray(skip)));
    if (start + chunk.frames >= this.goal) this.next();
    else this.pump();
  }

  private next(): void {
    this.finish();
    this.aim(this.target);
  }

  /** A server whose places for files are taken may have one for what goes at the pace of the clock. */
  private refused(session: Session): boolean {
    if (session !== this.session || session.ready !== null || !this.files) return false;
    this.files = false;
    this.session = null;
    session.close();
    this.aim(this.target);
    return true;
  }

  private fail(failure: Failure): void {
    this.resumes += this.session?.resumes ?? 0;
    this.session = null;
    // The server does not wait for ever for a playhead that stands still: another session is begun when it is needed.
    if (failure.code === "timeout") return;
    this.stopped = true;
    if (PASSING.has(failure.code)) this.again = setTimeout(() => this.stopped && this.retry(), AGAIN);
    this.on.failed(failure);
  }

  private finish(): void {
    this.resumes += this.session?.resumes ?? 0;
    this.session?.close();
    this.session = null;
  }
}
