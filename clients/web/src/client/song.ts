// A song on the deck: its stems are separated once, ahead of the playhead, and kept; playing, seeking and looping are the
// cache's affair alone, and go on when the server is gone.

import type { Ready, Stats } from "./codec";
import { deviceDelay } from "./device";
import type { Failure } from "./errors";
import type { Song } from "./file";
import { Peaks } from "./peaks";
import type { Connect } from "./socket";
import { Cache } from "./song-cache";
import { Fill, type Wanted } from "./song-fill";
import type { Interval } from "./song-intervals";
import type { SongReport, Stretch } from "./song-messages";
import { SongPlayer, prepare } from "./song-player";

const MOST_BYTES = 700e6; // of stems in memory: 15 minutes of four stems in stereo
const FEW_BYTES = 300e6; // on a device with little memory
const CUSHION = 5; // s before the playhead that must not be late
const BEHIND = 60; // s that are kept behind the playhead of a song that is too long to be kept whole ...
const BEFORE = 120; // ... and separated before it
const SHORTEST = 0.1; // s of a loop

/** What browsers tell of a device's memory is coarse, and some tell nothing. */
const memory = (): number => (((navigator as { deviceMemory?: number }).deviceMemory ?? 8) < 4 ? FEW_BYTES : MOST_BYTES);

export interface SongEvents {
  ready(ready: Ready): void;
  change(): void; // anything but the playhead and the levels
  grown(): void; // stems have come
  report(report: SongReport): void; // the playhead and the levels, 30 times a second
  stats(stats: Stats): void;
  notice(text: string): void;
  away(away: boolean): void; // the connection is lost, or made again
  failed(failure: Failure): void; // nothing more is separated until the next `play` or `seek`
}

export class Deck {
  readonly fill: Fill;
  cache: Cache | null = null;
  peaks: Peaks | null = null;
  stems: readonly string[] = [];
  channels = 0; // of each stem
  playing = false;
  loop: Interval | null = null;
  stretch: Stretch = { rate: 1, semitones: 0 };
  player: SongPlayer | null = null;
  private gains: number[] = [];
  private at = 0; // the playhead while nothing plays
  private over = false;
  private context: AudioContext | null = null;

  /** `most`: bytes of stems that may be kept. */
  constructor(
    readonly song: Song,
    connect: Connect,
    wanted: Wanted,
    private readonly on: SongEvents,
    private readonly most = memory(),
  ) {
    this.fill = new Fill(song, connect, wanted, () => this.cache, {
      ready: (ready) => this.begin(ready),
      stats: (stats) => on.stats(stats),
      notice: (text) => on.notice(text),
      away: (away) => on.away(away),
      failed: (failure) => on.failed(failure),
    });
    prepare();
    this.aim();
  }

  /** Samples. */
  get length(): number {
    return this.song.planes[0].length;
  }

  /** The sample of the song that is heard now. */
  get position(): number {
    return Math.min(this.player?.position ?? this.at, this.length);
  }

  /** The same between two reports, with the delay of the output device taken off; for what must move smoothly. */
  get ear(): number {
    const { player, context } = this;
    if (player === null || context === null || !this.playing) return this.position;
    return Math.max(0, player.positionAt(context.currentTime - deviceDelay(context)));
  }

  /** Whether the whole song is kept; else what is around the playhead. */
  get whole(): boolean {
    return Cache.bytes(this.cache?.planes ?? 8, this.length) <= this.most;
  }

  /** Where it stopped; from the beginning when it has ended. Call it from a click. */
  async play(context: AudioContext, output: AudioNode): Promise<void> {
    this.playing = true;
    this.context = context;
    this.fill.retry();
    this.on.change();
    if (this.position >= this.length) this.move(0);
    await this.ensure(output);
    this.player?.setPaused(!this.playing);
  }
  private output: AudioNode | null = null;

  pause(): void {
    this.playing = false;
    this.player?.setPaused(true);
    this.on.change();
  }

  /** To a sample of the song. */
  seek(to: number): void {
    this.move(Math.min(Math.max(0, Math.round(to)), this.length));
    this.fill.retry();
    this.on.change();
  }

  /** From `start` to `end` again and again; null: no more. Ends in the wrong order are put right; too near ones are moved apart. */
  setLoop(loop: Interval | null): void {
    const least = Math.round(SHORTEST * this.song.rate);
    if (loop === null) this.loop = null;
    else {
      const start = Math.max(0, Math.min(Math.round(Math.min(loop.start, loop.end)), this.length - least));
      this.loop = { start, end: Math.min(this.length, Math.max(Math.round(Math.max(loop.start, loop.end)), start + least)) };
    }
    this.player?.setLoop(this.loop);
    this.aim();
    this.on.change();
  }

  setStretch(stretch: Stretch): void {
    this.stretch = stretch;
    this.player?.setStretch(stretch);
    this.on.change();
  }

  /** One a stem. */
  setGains(gains: number[]): void {
    this.gains = gains;
    this.player?.setGains(gains);
  }

  close(): void {
    this.over = true;
    this.playing = false;
    this.fill.close();
    this.player?.close();
  }

  private begin(ready: Ready): void {
    if (this.cache === null) {
      this.stems = ready.stems;
      this.channels = ready.channels;
      const peaks = new Peaks(this.length, ready.stems.length, ready.channels);
      this.peaks = peaks;
      this.cache = new Cache(this.length, ready.stems.length * ready.channels);
      this.cache.onadd = (start, planes) => {
        peaks.add(start, planes);
        this.player?.feed();
        this.on.grown();
        if (this.cache?.complete) this.on.change();
      };
    }
    this.aim(); // how much of it is kept is known now
    this.on.ready(ready);
    if (this.output !== null) void this.ensure(this.output);
  }

  private async ensure(output: AudioNode): Promise<void> {
    this.output = output;
    const { cache, context } = this;
    if (cache === null || context === null || this.player !== null) return;
    const player = await SongPlayer.open(context, cache, this.stems.length, this.song.rate);
    if (this.over || this.player !== null) return player.close();
    this.player = player;
    player.onreport = (report) => this.progress(report);
    player.stretch = this.stretch;
    player.loop = this.loop;
    player.setGains(this.gains);
    player.setPaused(!this.playing);
    player.output.connect(output);
    player.jump(this.at);
  }

  private move(to: number): void {
    this.at = to;
    this.player?.jump(to);
    this.aim();
  }

  private progress(report: SongReport): void {
    this.at = this.position;
    if (report.phase === "ended" && this.playing) {
      this.playing = false;
      this.at = this.length;
      this.on.change();
    }
    this.aim();
    this.on.report(report);
  }

  // First what the playhead is about to reach, the loop being the nearest of it; then what lies before it; then the rest.
  private aim(): void {
    const playhead = Math.min(this.player?.front ?? this.at, this.length);
    const { rate } = this.song;
    const { loop, length } = this;
    const looping = loop !== null && playhead < loop.end;
    const until = (end: number): Interval => ({ start: playhead, end: Math.min(length, end) });
    const soon = looping ? [until(loop.end), loop] : [until(playhead + CUSHION * rate)];
    if (this.whole) return this.fill.aim({ playhead, soon, later: [until(length), { start: 0, end: length }] });
    const horizon = until(playhead + BEFORE * rate);
    const from = Math.min(playhead - BEHIND * rate, looping ? loop.start - rate : Infinity);
    this.cache?.keep(from, horizon.end + BEHIND * rate);
    this.fill.aim({ playhead, soon, later: [horizon] });
  }
}
