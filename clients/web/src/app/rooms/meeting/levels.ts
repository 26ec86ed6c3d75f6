// How loud every track is, bar by bar of time: what the lanes draw inside the turns.

import type { Chunk } from "../../../client/codec";

export const BAR = 0.128; // s

export class Levels {
  private readonly tracks: number[][] = []; // the loudest sample of each bar

  constructor(private readonly rate: number) {}

  add({ start, planes }: Chunk): void {
    const bar = BAR * this.rate;
    planes.forEach((plane, track) => {
      const bars = (this.tracks[track] ??= []);
      for (let at = 0; at < plane.length; ) {
        const number = Math.floor((start + at) / bar);
        const end = Math.min(plane.length, Math.ceil((number + 1) * bar) - start);
        let peak = bars[number] ?? 0;
        for (let i = at; i < end; i += 1) peak = Math.max(peak, Math.abs(plane[i]));
        bars[number] = peak;
        at = Math.max(end, at + 1);
      }
    });
  }

  /** `[second, peak]` of the bars from second `from` to `to`. */
  between(track: number, from: number, to: number): [number, number][] {
    const [first, last] = [Math.max(0, Math.floor(from / BAR)), Math.ceil(to / BAR)];
    const numbers = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
    return numbers.map((bar) => [bar * BAR, this.tracks[track]?.[bar] ?? 0]);
  }
}
