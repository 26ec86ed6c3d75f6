// The line to a server: one call after another, as Redial wants them, and what is measured of the one that is up.

import type { Failure } from "./errors";
import type { Sending } from "./inputs";
import { Call } from "./peer-call";
import { Measure } from "./peer-measure";
import { Redial, type RedialEvents } from "./peer-redial";
import type { PeerStart, Signalling, Terms } from "./peer-signalling";

const PATIENCE = 1000; // ms, with a server that is told of the end

/** `lost` is told while `measure` is still that of the call that is lost. */
export interface LineEvents extends RedialEvents {
  said(text: string): void; // over the data channel of the present call; so are the next three
  up(): void; // the way is open
  over(failure: Failure): void; // it ended by itself
  track(mid: string, track: MediaStreamTrack): void;
  hold(mid: string, seconds: number): void; // a track has to be held back
  begun(): void; // a session is ready
}

export interface Shape {
  outputs: number; // tracks that may come
  jitter: number; // ms that the jitter buffers aim at, at least
}

export class Line {
  measure: Measure | null = null; // of the present call
  private call: Call | null = null;
  private opened: () => void = () => {}; // by the server's `ready`
  private over = false;
  private readonly redial: Redial;

  /** `terms`: for the first call. `wanted`: what the next session begins with. `heard`: samples that have come, for Redial. */
  constructor(
    private readonly signalling: Signalling, private readonly sending: Sending, private readonly shape: Shape, private terms: Terms | null,
    private readonly wanted: () => PeerStart, heard: () => number, private readonly on: LineEvents,
  ) {
    this.redial = new Redial((signal) => this.dial(signal), heard, {
      away: () => on.away(),
      lost: () => {
        on.lost();
        this.measure?.close();
        this.call = this.measure = null;
      },
      back: (again) => on.back(again),
      notice: (text) => on.notice(text),
      failed: (failure) => on.failed(failure),
    });
  }

  get away(): boolean {
    return this.redial.away;
  }

  start(): void {
    void this.redial.start();
  }

  /** The session of the present call is ready. */
  ready(): void {
    this.opened();
  }

  /** False: it cannot be said now. */
  say(message: string): boolean {
    return this.call?.say(message) ?? false;
  }

  /** The present call is of no use any more. `wait`: ms until there is sense in another. */
  lost(failure: Failure, wait?: number): void {
    this.redial.lost(failure, wait);
  }

  /** `told`: the server knows. It is told first: a session whose peer has gone away is one that it no longer finds. */
  close(told: Promise<void>): void {
    this.over = true;
    this.measure?.close();
    this.redial.close();
    void Promise.race([told, new Promise((resolve) => setTimeout(resolve, PATIENCE))]).then(() => this.call?.close());
  }

  /** Resolves when the server is ready. What goes wrong, now or later, is the redial's. */
  private async dial(signal: AbortSignal): Promise<void> {
    const terms = this.terms ?? (await this.signalling.terms(signal)); // what they say of TURN is good for a while only
    this.terms = null;
    if (signal.aborted) return;
    const ready = new Promise<void>((resolve) => (this.opened = resolve));
    const call: Call = new Call(terms, this.sending, this.shape.outputs, {
      said: (text) => void (call === this.call && this.on.said(text)),
      up: () => this.on.up(),
      falters: (yes) => void (call === this.call && this.redial.falters(yes)),
      over: (failure) => void (call === this.call && this.on.over(failure)),
    });
    this.call = call;
    this.measure = new Measure(call.pc, this.shape.jitter, (mid, seconds) => this.on.hold(mid, seconds));
    signal.addEventListener("abort", () => void (this.over || call.close())); // else it is closed when the server knows
    call.pc.ontrack = ({ transceiver }) => void (call === this.call && this.welcome(transceiver));
    await call.dial(this.signalling, this.wanted(), signal);
    await ready;
    this.on.begun();
  }

  private welcome({ mid, receiver }: RTCRtpTransceiver): void {
    if (mid === null) return;
    receiver.jitterBufferTarget = this.shape.jitter; // the same for all: they play side by side
    this.on.track(mid, receiver.track);
  }
}
