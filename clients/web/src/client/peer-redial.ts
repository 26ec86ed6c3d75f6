// One call after another. A session over WebRTC ends with its connection, so what is lost is taken up by a call of a new session: when,
// how often and until when is decided here, with the patience that a WebSocket's session has. Nothing here knows of WebRTC.

import { Failure, asFailure } from "./errors";
import { Patience } from "./patience";
import { Later } from "./peer-signalling";

export interface RedialEvents {
  away(): void; // nothing comes: the connection falters, or is lost
  lost(): void; // it is lost, with its session; another call is tried for
  back(again: boolean): void; // `again`: by another call; else it was the connection that came back
  notice(text: string): void;
  failed(failure: Failure): void; // no further call
}

const OPENINGS = 5; // further tries of a server that is full and says when to come again
const NO_ANSWER = 10_000; // ms for one try of going on; the first call may wait for a model to be fetched
const GRACE = 3000; // ms in which a connection that falters may come back by itself; the browser took seconds to say so
const LATER = new Set(["capacity", "too_many", "draining"]); // refusals that pass
const PASSING = new Set([...LATER, "internal", "lost", "unreachable", "ice"]); // ends of a call after which another one may do

type State = "dialling" | "up" | "faltering" | "waiting" | "over";

export class Redial {
  calls = 0; // that were up
  private state: State = "waiting";
  private told = false; // whoever listens, that we are away
  private openings = 0;
  private attempt: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * `dial` makes a call and resolves when its session is ready; the signal ends the call, be it made or not. `heard`: samples of
   * all sessions that have come, by which the patience knows whether a call was of any use.
   */
  constructor(
    private readonly dial: (signal: AbortSignal) => Promise<void>,
    private readonly heard: () => number,
    private readonly on: RedialEvents,
    private readonly patience = new Patience(),
  ) {}

  get away(): boolean {
    return this.told;
  }

  async start(): Promise<void> {
    const attempt = (this.attempt = new AbortController());
    this.state = "dialling";
    if (this.calls > 0) this.timer = setTimeout(() => this.lost(silent()), NO_ANSWER);
    try {
      await this.dial(attempt.signal);
      if (attempt === this.attempt) this.up();
    } catch (error) {
      if (attempt === this.attempt) this.lost(asFailure(error), error instanceof Later ? error.wait : 0);
    }
  }

  /** Of the call that is up: it says nothing any more, or does again. */
  falters(yes: boolean): void {
    if (yes && this.state === "up") {
      this.state = "faltering";
      this.timer = setTimeout(() => this.lost(silent()), GRACE);
      this.tell();
    } else if (!yes && this.state === "faltering") this.up(false);
  }

  /** The present call is over, or could not be made. `least`: ms until there is sense in another. */
  lost(failure: Failure, least = 0): void {
    if (this.state === "waiting" || this.state === "over") return;
    const stood = this.state !== "dialling";
    this.drop();
    if (this.calls === 0) return this.openLater(failure, least);
    if (!PASSING.has(failure.code)) return this.fail(failure);
    const wait = this.patience.wait(performance.now(), this.heard(), least);
    if (wait === null) return this.fail(gone(this.patience.seconds));
    this.later(wait);
    if (stood) this.on.lost();
    this.tell();
  }

  close(): void {
    this.drop();
    this.state = "over";
  }

  private up(again = true): void {
    clearTimeout(this.timer);
    this.state = "up";
    if (again) this.calls += 1;
    if (!this.told) return;
    this.told = false;
    this.on.back(again);
  }

  private tell(): void {
    if (this.told) return;
    this.told = true;
    this.on.away();
  }

  private openLater(failure: Failure, wait: number): void {
    if (!LATER.has(failure.code) || wait === 0 || this.openings === OPENINGS) return this.fail(failure);
    this.openings += 1;
    this.later(wait);
    this.on.notice(`${failure.message} Trying again in ${Math.ceil(wait / 1000)} s (${this.openings} of ${OPENINGS}).`);
  }

  private later(wait: number): void {
    this.timer = setTimeout(() => void this.start(), wait);
  }

  private drop(): void {
    clearTimeout(this.timer);
    this.state = "waiting";
    const { attempt } = this;
    this.attempt = null; // what comes of it is not heard
    attempt?.abort();
  }

  private fail(failure: Failure): void {
    this.close();
    this.on.failed(failure);
  }
}

const silent = (): Failure => new Failure("The connection was lost.", "Check the network and try again.", "lost");

const gone = (seconds: number): Failure =>
  new Failure(`The connection was lost, and could not be made again within ${seconds} s.`, "Check the network and try again.", "lost");
