// The stems as faders and waveforms, and the buttons that set all faders in one go.

import { make } from "../../ui/elements";
import { title } from "../../ui/text";
import type { Karaoke } from "./karaoke";
import { presets } from "./presets";
import { Track } from "./track";

export class Desk {
  readonly element = make("div", { class: "desk-card" });
  private readonly presets = make("div", { class: "row presets", role: "group", "aria-label": "Presets" });
  private readonly rows = make("div", { class: "tracks" });
  private readonly focus = make("select", { "aria-label": "Instrument to practise" });
  private tracks: Track[] = [];
  private shown = "";
  private drawing = 0;
  private readonly resized = new ResizeObserver(() => this.grow());

  constructor(private readonly room: Karaoke) {
    this.element.append(this.presets, this.rows);
    this.focus.addEventListener("change", () => this.practise());
    this.resized.observe(this.rows);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.repaint);
  }

  /** Another song. */
  load(): void {
    this.shown = "";
    this.tracks = [];
    this.rows.replaceChildren();
    this.presets.replaceChildren();
  }

  show(): void {
    const { room } = this;
    const { stems } = room;
    if (stems.join() !== this.shown) this.build(stems);
    const loud = room.gains;
    this.tracks.forEach((track, i) => track.show(room.fader(track.stem), loud[i] > 0));
    const loop = room.deck?.loop ?? null;
    const length = room.deck?.length ?? 1;
    this.rows.classList.toggle("looped", loop !== null);
    this.rows.style.setProperty("--from", String((loop?.start ?? 0) / length));
    this.rows.style.setProperty("--to", String((loop?.end ?? 0) / length));
  }

  /** The ear is at this sample. */
  move(sample: number): void {
    this.rows.style.setProperty("--at", (sample / (this.room.deck?.length ?? 1)).toFixed(5));
  }

  levels(peaks: Float32Array | null): void {
    this.tracks.forEach((track, i) => track.level(peaks?.[i] ?? 0));
  }

  /** Stems have come: the waveforms are drawn once a frame at most. */
  grow(): void {
    if (this.drawing === 0) this.drawing = requestAnimationFrame(() => this.draw());
  }

  close(): void {
    cancelAnimationFrame(this.drawing);
    this.resized.disconnect();
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.repaint);
  }

  /** All stems as they are kept, for tests: `{name: planes}`. */
  whole(): Record<string, Float32Array[]> {
    const { deck } = this.room;
    if (!deck?.cache) return {};
    const planes = Array.from({ length: deck.cache.planes }, () => new Float32Array(deck.length));
    deck.cache.read(0, deck.length, planes);
    return Object.fromEntries(deck.stems.map((name, s) => [name, planes.slice(s * deck.channels, (s + 1) * deck.channels)]));
  }

  private readonly repaint = (): void => this.grow();

  private draw(): void {
    this.drawing = 0;
    const { deck } = this.room;
    if (!deck?.peaks || !deck.cache) return;
    const { peaks, cache } = deck;
    this.tracks.forEach((track, i) => track.draw(peaks, i, cache.held));
  }

  private build(stems: readonly string[]): void {
    const { room } = this;
    this.shown = stems.join();
    const go = (share: number): void => room.deck?.seek(share * room.deck.length);
    this.tracks = stems.map((stem, i) => new Track(stem, i, (change) => room.setFader(stem, change), go));
    this.rows.replaceChildren(...this.tracks.map((track) => track.element));
    this.focus.replaceChildren(...stems.map((stem) => new Option(title(stem), stem)));
    this.focus.value = stems.find((stem) => stem !== "vocals") ?? stems[0] ?? "";
    const buttons = presets(stems, this.focus.value).map(({ name, hint }) => {
      const button = make("button", { type: "button", class: "toggle", title: hint }, name);
      button.addEventListener("click", () => this.apply(name));
      return button;
    });
    this.presets.replaceChildren(...buttons, this.focus);
    this.grow();
  }

  private apply(name: string): void {
    const found = presets(this.room.stems, this.focus.value).find((preset) => preset.name === name);
    if (found) this.room.setPreset(found);
  }

  private practise(): void {
    this.apply("Practice");
  }
}
