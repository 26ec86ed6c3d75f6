// One stem: its name and desk on the left, its waveform on the right, growing while it is separated.

import type { Peaks } from "../../../client/peaks";
import type { Intervals } from "../../../client/song-intervals";
import type { Fader } from "../../faders";
import { controls } from "../../ui/controls";
import { make, pen } from "../../ui/elements";
import { title } from "../../ui/text";

const HUES: Record<string, number> = { vocals: 345, drums: 55, bass: 265, other: 165, guitar: 25, piano: 205 };
const BAR = 3; // pixels a bar and its gap

export class Track {
  readonly element: HTMLElement;
  private readonly canvas = make("canvas", { "aria-hidden": "true" });
  private readonly desk;

  constructor(readonly stem: string, index: number, change: (change: Partial<Fader>) => void, seek: (share: number) => void) {
    const name = title(stem);
    this.element = make("div", { class: "track", role: "group", "aria-label": name, "data-stem": stem });
    this.element.style.setProperty("--hue", String(HUES[stem] ?? (index * 137 + 200) % 360));
    this.desk = controls(name, change);
    this.desk.level(0);
    const [fader, value, mute, solo] = this.desk.elements;
    const side = this.element.appendChild(make("div", { class: "desk" }));
    side.append(make("span", { class: "name" }, name), mute, solo, fader, value);
    const view = this.element.appendChild(make("div", { class: "wave" }));
    view.append(this.canvas, this.desk.meter);
    this.canvas.addEventListener("click", (event) => seek(event.offsetX / this.canvas.clientWidth));
  }

  show(fader: Fader, sounding: boolean): void {
    this.desk.show(fader);
    this.element.classList.toggle("silent", !sounding);
  }

  /** A linear peak. */
  level(peak: number): void {
    this.desk.level(peak);
  }

  /** Bars of what has come; those of parts that are not kept any more are pale. */
  draw(peaks: Peaks, index: number, held: Intervals): void {
    const brush = pen(this.canvas);
    if (brush === null) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const count = Math.max(1, Math.floor(width / BAR));
    brush.fillStyle = getComputedStyle(this.canvas).color;
    peaks.columns(index, count).forEach((peak, i) => {
      const middle = Math.floor(((i + 0.5) / count) * peaks.length);
      const here = held.through(middle) > middle;
      if (peak === 0 && !here) return;
      brush.globalAlpha = here ? 1 : 0.3;
      // The square root: quiet and loud both show, and a phrase still has a shape.
      const tall = Math.max(1.5, Math.sqrt(Math.min(1, peak)) * height);
      brush.fillRect((i * width) / count, (height - tall) / 2, Math.max(1, width / count - 1), tall);
    });
  }
}
