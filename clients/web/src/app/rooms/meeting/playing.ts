// The playhead in what was kept: play, pause, stop, and to any sample.

import type { Ready } from "../../../client/codec";
import type { Shell } from "../../shell";
import { Replay } from "./replay";
import type { Tracks } from "./tracks";

export type Playback = "stopped" | "playing" | "paused" | "ended";

/** What is to be played, as it stands now. */
export interface Score {
  readonly ready: Ready | null;
  readonly tracks: Tracks;
  readonly last: number | null; // the sample at which it ends, null while more may come
}

export interface PlayingEvents {
  changed(): void;
  moved(): void;
  gains(): number[];
}

export class Playing {
  state: Playback = "stopped";
  replay: Replay | null = null;
  private cursor = 0; // samples: where Play begins
  private turn = 0; // a newer command makes one that still waits for the worklet give up

  constructor(private readonly shell: Shell, private readonly score: () => Score, private readonly on: PlayingEvents) {}

  /** Samples. */
  get position(): number {
    return this.replay?.position ?? this.cursor;
  }

  /** On, or from the playhead; from the beginning when it has ended. Call it from a click. */
  async play(): Promise<void> {
    if (this.replay && this.state === "paused") {
      this.replay.setPaused(false);
      this.enter("playing");
    } else await this.from(this.state === "ended" ? 0 : this.cursor);
  }

  pause(): void {
    if (this.state !== "playing") return;
    this.replay?.setPaused(true);
    this.enter("paused");
  }

  /** What was paused stays so. */
  async seek(to: number): Promise<void> {
    if (this.state === "playing") return this.from(to);
    this.halt(to);
    this.on.changed();
  }

  async from(at: number): Promise<void> {
    const { ready, tracks } = this.score();
    if (ready === null || tracks.end === tracks.from) return;
    const turn = this.halt(at);
    this.enter("playing");
    const last = (): number | null => this.score().last;
    const context = await this.shell.wake();
    const replay = await Replay.open(context, this.shell.output, ready, tracks, this.cursor, last);
    if (turn !== this.turn) return replay.close();
    this.replay = replay;
    replay.run(this.on.gains(), () => {
      this.on.moved();
      if (replay.ended && this.state === "playing") this.enter("ended");
    });
  }

  /** Silence, with the playhead at a sample of what was kept. Returns the number of this command. */
  halt(at = 0): number {
    const { tracks } = this.score();
    this.cursor = Math.round(Math.min(Math.max(at, tracks.from), tracks.end));
    this.replay?.close();
    this.replay = null;
    this.state = "stopped";
    return ++this.turn;
  }

  private enter(state: Playback): void {
    this.state = state;
    this.on.changed();
  }
}
