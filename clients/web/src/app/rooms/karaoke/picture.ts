// The spectrogram's card: of the mix as it is heard, or of one stem.

import { make } from "../../ui/elements";
import { title } from "../../ui/text";
import type { Karaoke } from "./karaoke";
import { Spectrogram, heightOf } from "./spectrogram";

const PITCHES = [[100, "100 Hz"], [1000, "1 kHz"], [10_000, "10 kHz"]] as const;

export class Picture {
  readonly element = make("section", { class: "card picture", "aria-labelledby": "picture-title" });
  private readonly canvas = make("canvas");
  private readonly choice = make("select", { "aria-label": "Spectrogram of" });
  private readonly spectrogram: Spectrogram;
  private planes: Float32Array[] = [];
  private shown: string | null = null;

  constructor(private readonly room: Karaoke) {
    const head = make("div", { class: "row spread" });
    head.append(make("h2", { id: "picture-title" }, "What sounds now"), this.choice);
    const view = make("div", { class: "spectrum", "aria-hidden": "true" });
    view.append(this.canvas);
    for (const [hertz, text] of PITCHES) {
      const label = view.appendChild(make("span", {}, text));
      label.style.bottom = `${100 * heightOf(hertz)}%`;
    }
    this.element.append(head, view);
    this.spectrogram = new Spectrogram(this.canvas, (into) => this.read(into));
  }

  /** Another song. */
  load(): void {
    this.spectrogram.clear();
    this.planes = [];
  }

  show(): void {
    const { stems } = this.room;
    if (stems.join() === this.shown) return;
    this.shown = stems.join();
    this.choice.replaceChildren(new Option("The mix", ""), ...stems.map((stem) => new Option(title(stem), stem)));
  }

  step(): void {
    this.spectrogram.step();
  }

  private read(into: Float32Array): void {
    const { deck, stems, gains } = this.room;
    into.fill(0);
    if (!deck?.cache) return;
    const { planes: count } = deck.cache;
    if (this.planes.length !== count) this.planes = Array.from({ length: count }, () => new Float32Array(into.length));
    deck.cache.read(Math.round(deck.ear) - into.length / 2, into.length, this.planes);
    const { value } = this.choice;
    this.planes.forEach((plane, p) => {
      const stem = Math.floor(p / deck.channels);
      const gain = (value === "" ? gains[stem] : value === stems[stem] ? 1 : 0) / deck.channels;
      for (let i = 0; gain !== 0 && i < into.length; i += 1) into[i] += gain * plane[i];
    });
  }
}
