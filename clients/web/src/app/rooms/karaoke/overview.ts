// The song as a whole, by wavesurfer.js with its own playback off: click to seek, drag a stretch to loop it.

import WaveSurfer from "wavesurfer.js";
import RegionsPlugin, { type Region } from "wavesurfer.js/dist/plugins/regions.esm.js";
import type { Interval } from "../../../client/song-intervals";
import { Peaks } from "../../../client/peaks";
import type { Song } from "../../../client/file";

const COLUMNS = 1200;
const SHORTEST = 0.1; // s of a stretch that is dragged: less is a click

export interface OverviewEvents {
  seek(sample: number): void;
  loop(loop: Interval): void;
}

export class Overview {
  private readonly wave: WaveSurfer;
  private readonly regions = RegionsPlugin.create();
  private region: Region | null = null;
  private rate = 1;
  private dragged = 0; // when a stretch was last drawn: the click that ends it is no seek

  constructor(private readonly host: HTMLElement, private readonly on: OverviewEvents) {
    this.wave = WaveSurfer.create({
      container: host, height: 64, cursorWidth: 0, barWidth: 2, barGap: 1, barRadius: 2, interact: true, plugins: [this.regions],
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.colour);
    this.regions.enableDragSelection({ color: "transparent", minLength: SHORTEST });
    this.regions.on("region-created", (region) => this.drawn(region));
    this.regions.on("region-updated", (region) => this.drawn(region));
    this.wave.on("interaction", (seconds) => {
      if (performance.now() - this.dragged > 100) this.on.seek(Math.round(seconds * this.rate));
    });
  }

  show({ planes, rate }: Song): void {
    const peaks = new Peaks(planes[0].length, 1, planes.length);
    peaks.add(0, planes);
    this.rate = rate;
    this.forget();
    this.colour();
    void this.wave.load("", [peaks.columns(0, COLUMNS)], planes[0].length / rate);
  }

  /** Where the ear is, in samples. */
  move(sample: number): void {
    this.wave.setTime(sample / this.rate);
  }

  showLoop(loop: Interval | null): void {
    if (loop === null) return this.forget();
    const [start, end] = [loop.start / this.rate, loop.end / this.rate];
    if (this.region) this.region.setOptions({ start, end });
    else {
      const made = this.regions.addRegion({ start, end, color: "transparent", minLength: SHORTEST });
      this.region = made;
      this.dress(made);
    }
  }

  close(): void {
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.colour);
    this.wave.destroy();
  }

  private drawn(region: Region): void {
    if (this.region !== null && this.region !== region) this.region.remove();
    this.region = region;
    this.dress(region);
    this.dragged = performance.now();
    const [start, end] = [region.start, region.end].map((seconds) => Math.round(seconds * this.rate));
    this.on.loop({ start, end });
  }

  private dress(region: Region): void {
    region.setOptions({ color: this.paint("color-mix(in srgb, var(--accent) 22%, transparent)") });
  }

  private forget(): void {
    this.region?.remove();
    this.region = null;
  }

  // A canvas does not know CSS variables: what they come to is asked of an element that wears them.
  private paint(colour: string): string {
    const probe = document.createElement("i");
    probe.style.color = colour;
    this.host.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  private readonly colour = (): void => {
    this.wave.setOptions({ waveColor: this.paint("var(--edge)"), progressColor: this.paint("var(--accent)") });
    if (this.region) this.dress(this.region);
  };
}
