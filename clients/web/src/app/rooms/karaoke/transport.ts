// Play, the place in the song, the loop, tempo and key.

import type { Stretch } from "../../../client/song-messages";
import { RATE } from "../../shell";
import { make, write } from "../../ui/elements";
import { clock } from "../../ui/text";
import type { Karaoke } from "./karaoke";
import { Overview } from "./overview";

export const SLOWEST = 0.5;
export const FASTEST = 1.5;
export const MOST_SEMITONES = 7;

const percent = (rate: number): string => `${Math.round(100 * rate)} %`;
const semitones = (value: number): string => {
  if (value === 0) return "as sung";
  return `${value > 0 ? "+" : "−"}${Math.abs(value)} semitone${Math.abs(value) === 1 ? "" : "s"}`;
};
const place = (sample: number): string => `${clock(sample / RATE)}.${Math.floor(((sample / RATE) % 1) * 10)}`;

export class Transport {
  readonly element = make("div", { class: "player" });
  private readonly play = make("button", { type: "button", class: "primary" }, "Play");
  private readonly start = make("button", { type: "button", class: "icon", "aria-label": "To the beginning" });
  private readonly loopStart = make("button", { type: "button", title: "The loop begins here: [" }, "Loop from here");
  private readonly loopEnd = make("button", { type: "button", title: "The loop ends here: ]" }, "Loop to here");
  private readonly loopOff = make("button", { type: "button", title: "Backspace" }, "No loop");
  private readonly loop = make("p", { class: "figures" });
  private readonly time = make("span", { class: "time" });
  private readonly seek = make("input", {
    type: "range", id: "seek", min: "0", max: "1", step: "any", value: "0", "aria-label": "Position in the song",
  });
  private readonly status = make("p", { role: "status", id: "status", class: "quiet" });
  private readonly tempo = slider("Tempo", SLOWEST, FASTEST, 0.01);
  private readonly key = slider("Key", -MOST_SEMITONES, MOST_SEMITONES, 1);
  private readonly overview: Overview;
  private seeking = false;

  constructor(private readonly room: Karaoke) {
    this.start.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 5v14M19 5 9 12l10 7Z" /></svg>';
    const buttons = make("div", { class: "transport" });
    buttons.append(this.play, this.start, this.loopStart, this.loopEnd, this.loopOff, this.time);
    const knobs = make("div", { class: "row knobs" });
    knobs.append(this.tempo.element, this.key.element);
    const wave = make("div", { class: "overview", "aria-hidden": "true", title: "Click to go there, drag a stretch to loop it" });
    const [row, side, view] = ["track whole", "side", "view"].map((name) => make("div", { class: name }));
    side.append(this.loop, this.status);
    view.append(wave, this.seek);
    row.append(side, view);
    this.element.append(buttons, knobs, row);
    this.overview = new Overview(wave, { seek: (sample) => room.deck?.seek(sample), loop: (loop) => room.deck?.setLoop(loop) });
    this.listen();
  }

  show(): void {
    const { deck, song } = this.room;
    write(this.play, deck?.playing ? "Pause" : "Play");
    const { play, start, loopStart, loopEnd, seek, tempo, key } = this;
    for (const one of [play, start, loopStart, loopEnd, seek, tempo.input, key.input]) one.disabled = deck === null;
    this.loopOff.disabled = !deck?.loop;
    this.seek.max = String(song?.planes[0].length ?? 1);
    const loop = deck?.loop ?? null;
    write(this.loop, loop ? `Loop ${place(loop.start)} – ${place(loop.end)}` : "");
    this.overview.showLoop(loop);
    const { rate, semitones: keys } = deck?.stretch ?? { rate: 1, semitones: 0 };
    this.tempo.show(rate, percent(rate));
    this.key.show(keys, semitones(keys));
    this.move();
  }

  /** Another song. */
  load(): void {
    if (this.room.song) this.overview.show(this.room.song);
  }

  focus(): void {
    this.play.disabled = false;
    this.play.focus();
  }

  move(): void {
    const { deck, song } = this.room;
    const at = deck?.position ?? 0;
    write(this.time, `${clock(at / RATE)} / ${clock((song?.planes[0].length ?? 0) / RATE)}`);
    if (!this.seeking) this.seek.valueAsNumber = at;
    this.seek.setAttribute("aria-valuetext", clock(this.seek.valueAsNumber / RATE));
    write(this.status, sentence(this.room));
    this.overview.move(at);
  }

  close(): void {
    this.overview.close();
  }

  private listen(): void {
    const { room } = this;
    this.play.addEventListener("click", () => void room.toggle());
    this.start.addEventListener("click", () => room.deck?.seek(0));
    this.loopStart.addEventListener("click", () => room.mark("start"));
    this.loopEnd.addEventListener("click", () => room.mark("end"));
    this.loopOff.addEventListener("click", () => room.deck?.setLoop(null));
    this.seek.addEventListener("input", () => (this.seeking = true));
    this.seek.addEventListener("change", () => {
      this.seeking = false;
      room.deck?.seek(this.seek.valueAsNumber);
    });
    const stretch = (change: Partial<Stretch>): void => room.deck?.setStretch({ ...room.deck.stretch, ...change });
    this.tempo.input.addEventListener("input", () => stretch({ rate: this.tempo.input.valueAsNumber }));
    this.key.input.addEventListener("input", () => stretch({ semitones: this.key.input.valueAsNumber }));
    this.tempo.input.addEventListener("dblclick", () => stretch({ rate: 1 }));
    this.key.input.addEventListener("dblclick", () => stretch({ semitones: 0 }));
  }
}

/** What is going on, in one sentence. */
export function sentence({ deck, song, shell, busy }: Karaoke): string {
  if (busy) return busy;
  if (song === null) return "Choose a song.";
  if (deck === null) return shell.models.length === 0 ? "Waiting for the server…" : "The server has no model for songs.";
  const { cache, fill } = deck;
  if (cache?.complete) return "All stems are here: nothing more is asked of the server.";
  if (fill.stopped) return "What has been separated can be played; the rest waits for the server.";
  if (cache === null) return "Connecting…";
  const tens = 10 * Math.floor((10 * cache.held.size) / cache.length); // in steps: a screen reader says every change
  const waiting = deck.playing && deck.player?.report?.phase === "filling" ? " Waiting for it…" : "";
  return `Separating${deck.whole ? `: ${tens} %` : " ahead of the playhead"}.${waiting}`;
}

interface Slider {
  element: HTMLElement;
  input: HTMLInputElement;
  show(value: number, text: string): void;
}

function slider(name: string, min: number, max: number, step: number): Slider {
  const element = make("label", { class: "knob" });
  const range = { type: "range", min: String(min), max: String(max), step: String(step) };
  const input = make("input", { ...range, "aria-label": name, title: "Double-click to reset" });
  const value = make("output", { class: "value" });
  element.append(make("span", {}, name), input, value);
  return {
    element,
    input,
    show(now, text) {
      input.valueAsNumber = now;
      input.setAttribute("aria-valuetext", text);
      write(value, text);
    },
  };
}
