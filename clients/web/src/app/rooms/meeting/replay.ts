// Plays what was kept, from any sample on: through the same ring and mixer as a session's stems, so that faders, mutes and
// solos act alike. What is still being heard by the server is played as far as it has come.

import type { Ready } from "../../../client/codec";
import { Player } from "../../../client/player";
import type { Report } from "../../../client/player-messages";
import type { Tracks } from "./tracks";

const AHEAD = 1.5; // s of kept sound in the ring
const PIECE = 4800; // samples written at once

export class Replay {
  report: Report | null = null;
  private written = 0; // samples, from `from` on

  private constructor(
    private readonly player: Player, private readonly tracks: Tracks, readonly from: number,
    private readonly rate: number, private readonly last: () => number | null,
  ) {}

  /** `last`: the sample at which the recording ends, null while that is not known. */
  static async open(
    context: AudioContext, output: AudioNode, ready: Ready, tracks: Tracks, from: number, last: () => number | null,
  ): Promise<Replay> {
    const shape: Ready = { ...ready, channels: 1 };
    const player = await Player.open(context, shape, false, 2 * AHEAD * ready.rate);
    const replay = new Replay(player, tracks, from, ready.rate, last);
    player.output.connect(output);
    return replay;
  }

  /** Begins. `moved` is called with every report of the audio thread. */
  run(gains: readonly number[], moved: (replay: Replay) => void): void {
    this.player.onreport = (report) => {
      this.report = report;
      this.fill();
      moved(this);
    };
    this.player.setGains(gains);
    this.fill();
  }

  /** Samples of the recording. */
  get position(): number {
    return this.from + (this.report?.position ?? 0);
  }

  get ended(): boolean {
    return this.report?.phase === "ended";
  }

  setGains(gains: readonly number[]): void {
    this.player.setGains(gains);
  }

  setPaused(paused: boolean): void {
    this.player.setPaused(paused);
  }

  close(): void {
    this.player.close();
  }

  private fill(): void {
    const last = this.last();
    const there = Math.min(this.tracks.end, last ?? Infinity) - this.from;
    const wanted = Math.min(there, (this.report?.position ?? 0) + AHEAD * this.rate);
    while (this.written < wanted) this.write(Math.min(PIECE, wanted - this.written));
    if (last !== null && this.from + this.written >= last) this.player.setEnd(this.written);
  }

  private write(frames: number): void {
    const at = this.from + this.written;
    const planes = Array.from({ length: this.tracks.count }, (_, track) => this.tracks.read(track, at, frames));
    this.player.write({ start: this.written, frames, stems: planes.length, channels: 1, planes });
    this.written += frames;
  }
}
