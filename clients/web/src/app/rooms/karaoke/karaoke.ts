// What the room is doing, without any of its elements: one song, its deck, and the faders.

import { below, socketUrl } from "../../../client/address";
import type { Ready, Stats } from "../../../client/codec";
import { Failure, asFailure } from "../../../client/errors";
import { type Song, decodeSong } from "../../../client/file";
import { choose } from "../../../client/models";
import { connector } from "../../../client/socket";
import { Deck } from "../../../client/song";
import type { SongReport } from "../../../client/song-messages";
import { type Fader, freshFader, gains } from "../../faders";
import { RATE, type Shell } from "../../shell";
import type { Preset } from "./presets";
import { Recorder } from "./recorder";

export const DEMO = "demo/song.ogg";

export class Karaoke {
  busy = ""; // what is waited for
  deck: Deck | null = null;
  song: Song | null = null;
  file: File | null = null; // that the song came in
  recorder: Recorder | null = null;
  chosen: string | null = null; // a model by name; null: the one for songs
  ready: Ready | null = null;
  stats: Stats | null = null;
  away = false;
  onchange: () => void = () => {}; // anything but the playhead and the levels
  onsong: () => void = () => {}; // another song is on the deck
  ongrown: () => void = () => {}; // stems have come
  onmove: (report: SongReport) => void = () => {};
  private readonly faders = new Map<string, Fader>();
  private turn = 0; // a newer command makes older ones that still wait for something give up

  constructor(readonly shell: Shell) {}

  get stems(): readonly string[] {
    return this.deck?.stems ?? [];
  }

  fader(stem: string): Fader {
    const known = this.faders.get(stem) ?? freshFader();
    this.faders.set(stem, known);
    return known;
  }

  /** As the faders stand, one a stem. */
  get gains(): number[] {
    return gains(this.stems.map((stem) => this.fader(stem)), true);
  }

  setFader(stem: string, change: Partial<Fader>): void {
    Object.assign(this.fader(stem), change);
    this.mix();
  }

  setPreset(preset: Preset): void {
    for (const stem of this.stems) this.faders.set(stem, { ...preset.fader(stem) });
    this.mix();
  }

  /** A file that the browser plays, sound or video. */
  async load(file: File): Promise<void> {
    await this.take("Reading the file…", async () => this.put(await decodeSong(file, RATE), file));
  }

  /** The song that comes along. */
  async demo(): Promise<void> {
    await this.take("Fetching the song…", async () => {
      const answer = await fetch(below(this.shell.base, DEMO)).catch(() => null);
      if (!answer?.ok) throw new Failure("The song that comes along could not be fetched.", "Choose a song of your own.", "demo");
      const file = new File([await answer.blob()], "Our own song.ogg", { type: "audio/ogg" });
      return this.put(await decodeSong(file, RATE), file);
    });
  }

  /** Begins to record. Call it from a click. */
  async record(from: "microphone" | "tab"): Promise<void> {
    const asking = from === "tab" ? "Choose a tab, with its sound." : "Waiting for the microphone: allow it if the browser asks.";
    await this.take(asking, async (turn) => {
      this.deck?.pause();
      const recorder = await Recorder.open(await this.shell.wake(), from, () => this.recorded());
      if (turn !== this.turn) return recorder.close();
      recorder.onfull = () => this.recorded();
      this.recorder = recorder;
    });
  }

  /** What was recorded becomes the song. */
  recorded(): void {
    const { recorder } = this;
    this.recorder = null;
    try {
      if (recorder !== null) this.put(recorder.stop("A recording"), null);
    } catch (error) {
      recorder?.close();
      this.shell.fail(asFailure(error));
    }
    this.onchange();
  }

  async toggle(): Promise<void> {
    const { deck, shell } = this;
    if (deck === null) return;
    if (deck.playing) return deck.pause();
    try {
      await deck.play(await shell.wake(), shell.output);
    } catch (error) {
      deck.pause();
      shell.fail(asFailure(error));
    }
  }

  /** The loop begins, or ends, at the playhead; one that ends here goes back at once. */
  mark(end: "start" | "end"): void {
    const { deck } = this;
    if (deck === null) return;
    const at = deck.position;
    const { start, end: stop } = deck.loop ?? { start: 0, end: deck.length };
    if (end === "start") deck.setLoop({ start: at, end: stop > at ? stop : deck.length });
    else {
      deck.setLoop({ start: start < at ? start : 0, end: at });
      if (deck.playing) deck.seek(deck.loop!.start);
    }
  }

  setModel(name: string | null): void {
    this.chosen = name;
    if (this.song !== null) this.put(this.song, this.file);
  }

  /** The models are known. */
  begin(): void {
    if (this.song !== null && this.deck === null) this.put(this.song, this.file);
    this.onchange();
  }

  close(): void {
    this.turn += 1;
    this.recorder?.close();
    this.deck?.close();
  }

  private async take(busy: string, work: (turn: number) => Promise<unknown>): Promise<void> {
    const turn = ++this.turn;
    this.busy = busy;
    this.recorder?.close();
    this.recorder = null;
    this.shell.fail(null);
    this.onchange();
    try {
      await work(turn);
    } catch (error) {
      if (turn === this.turn) this.shell.fail(asFailure(error));
    }
    if (turn !== this.turn) return;
    this.busy = "";
    this.onchange();
  }

  private put(song: Song, file: File | null): void {
    this.deck?.close();
    this.deck = null;
    this.ready = this.stats = null;
    this.away = false;
    [this.song, this.file] = [song, file];
    const { shell } = this;
    const { model } = choose(shell.models, "file", "stems", this.chosen);
    if (model) this.deck = this.open(song, model.name);
    this.onsong();
    this.onchange();
  }

  private open(song: Song, model: string): Deck {
    const { shell } = this;
    const connect = connector(socketUrl(shell.base), () => shell.key.token());
    return new Deck(song, connect, { model }, {
      ready: (ready) => {
        this.ready = ready;
        shell.fail(null);
        shell.notice("");
        this.mix();
      },
      change: () => this.onchange(),
      grown: () => this.ongrown(),
      report: (report) => this.onmove(report),
      stats: (stats) => {
        this.stats = stats;
      },
      notice: (text) => shell.notice(text),
      away: (away) => {
        this.away = away;
        this.onchange();
      },
      failed: (failure) => {
        this.away = false;
        shell.fail(failure);
        this.onchange();
      },
    });
  }

  private mix(): void {
    this.deck?.setGains(this.gains);
    this.onchange();
  }
}
