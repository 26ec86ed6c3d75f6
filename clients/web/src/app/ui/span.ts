// The stretch of time that the speakers' lanes show, all of them the same, and what is drawn on it.

import type { Turn } from "../../client/turns";

const PIXELS = 26; // a second
export const BAR = 0.128; // seconds of sound a bar of level

/** Seconds. `from` is at the left edge; the playhead is somewhere inside, and right of it is what is known already. */
export interface Span {
  from: number;
  seconds: number;
  now: number;
}

/** A width of CSS pixels around `now`; a microphone has little future, a file is known ahead of its playhead. */
export function span(width: number, now: number, live: boolean): Span {
  const seconds = width / PIXELS;
  return { from: now - seconds * (live ? 0.88 : 0.65), seconds, now };
}

export const place = ({ from, seconds }: Span, at: number, width: number): number => ((at - from) / seconds) * width;

/** Whole steps of so many seconds inside. */
export function ticks({ from, seconds }: Span, step: number): number[] {
  const first = Math.max(0, Math.ceil(from / step));
  const last = Math.floor((from + seconds) / step);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

/** The loudest of each bar of time, by the bar's number. */
export class Levels {
  private readonly bars = new Map<number, number>();

  push(at: number, peak: number): void {
    const bar = Math.floor(at / BAR);
    this.bars.set(bar, Math.max(this.bars.get(bar) ?? 0, peak));
  }

  /** `[second, peak]` of the bars from `from` to `to`. */
  between(from: number, to: number): [number, number][] {
    const [first, last] = [Math.floor(from / BAR), Math.ceil(to / BAR)];
    const numbers = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
    return numbers.map((bar) => [bar * BAR, this.bars.get(bar) ?? 0]);
  }
}

export interface Colours {
  own: string;
  paper: string;
  ink: string;
  line: string;
}

/** One person's turns, solid when they are final, with the level of what has been played inside them. */
export function drawLane(
  pen: CanvasRenderingContext2D, width: number, height: number, span: Span, turns: readonly Turn[], rate: number, origin: number,
  levels: Levels, colours: Colours,
): void {
  drawGrid(pen, width, height, span, colours.line);
  pen.fillStyle = colours.own;
  for (const turn of turns) {
    const left = place(span, (origin + turn.start) / rate, width);
    const right = place(span, (origin + turn.end) / rate, width);
    pen.globalAlpha = turn.final ? 1 : 0.4;
    pen.beginPath();
    pen.roundRect(left, 3, Math.max(3, right - left), height - 6, 6);
    pen.fill();
  }
  const inside = (at: number): Turn | undefined => turns.find((turn) => origin + turn.start <= at * rate && at * rate < origin + turn.end);
  for (const [at, peak] of levels.between(span.from, span.now)) {
    if (!(peak > 0.004)) continue;
    const tall = Math.max(2, Math.min(1, Math.sqrt(peak)) * (height - 14));
    const turn = inside(at + BAR / 2);
    pen.fillStyle = turn?.final ? colours.paper : colours.own;
    pen.globalAlpha = turn ? 0.85 : 0.3;
    pen.fillRect(place(span, at, width) + 0.5, (height - tall) / 2, Math.max(1, BAR * PIXELS - 1.2), tall);
  }
  pen.globalAlpha = 0.7;
  pen.fillStyle = colours.ink;
  pen.fillRect(Math.round(place(span, span.now, width)) - 1, 0, 1.5, height);
}

function drawGrid(pen: CanvasRenderingContext2D, width: number, height: number, span: Span, colour: string): void {
  pen.globalAlpha = 1;
  pen.fillStyle = colour;
  for (const at of ticks(span, 5)) pen.fillRect(Math.round(place(span, at, width)), 0, 1, height);
  const beginning = Math.max(0, place(span, 0, width));
  pen.fillRect(beginning, Math.round(height / 2), width - beginning, 1);
}

/** The times under the lanes. */
export function drawRuler(
  pen: CanvasRenderingContext2D, width: number, height: number, span: Span, colour: string, say: (seconds: number) => string,
): void {
  pen.fillStyle = colour;
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "bottom";
  for (const at of ticks(span, 5)) {
    const x = place(span, at, width);
    if (x > 14 && x < width - 14) pen.fillText(say(at), x, height);
  }
}
