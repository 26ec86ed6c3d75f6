// The stretch of time that the lanes show, all of them the same, and what is drawn on it.

import type { Turn } from "../../../client/turns";
import { BAR } from "./levels";

const PIXELS = 26; // a second

/** Seconds. `from` is at the left edge; the playhead is somewhere inside, and right of it is what is known already. */
export interface Span {
  from: number;
  seconds: number;
  now: number;
}

/** A width of CSS pixels around `at`; live there is little future, a recording is known ahead of its playhead. */
export function span(width: number, at: number, live: boolean, now = at): Span {
  const seconds = width / PIXELS;
  const before = Math.max(at - seconds * (live ? 0.88 : 0.5), live ? -Infinity : 0);
  return { from: before, seconds, now };
}

export const place = ({ from, seconds }: Span, at: number, width: number): number => ((at - from) / seconds) * width;

/** Whole steps of so many seconds inside. */
export function ticks({ from, seconds }: Span, step: number): number[] {
  const first = Math.max(0, Math.ceil(from / step));
  const last = Math.floor((from + seconds) / step);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

/** Steps of a ruler that leave room for their texts. */
export function step(seconds: number, width: number): number {
  const least = (seconds / Math.max(1, width)) * 64;
  return [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].find((candidate) => candidate >= least) ?? 3600;
}

export interface Colours {
  own: string;
  paper: string;
  ink: string;
  line: string;
}

export interface Said {
  turns: readonly Turn[];
  levels: readonly [number, number][]; // second, peak
  rate: number;
}

/** One person's turns, solid when they are final, with the level of the sound inside them. */
export function drawLane(
  pen: CanvasRenderingContext2D, width: number, height: number, span: Span, { turns, levels, rate }: Said, colours: Colours,
): void {
  drawGrid(pen, width, height, span, colours.line);
  pen.fillStyle = colours.own;
  for (const turn of turns) {
    const left = place(span, turn.start / rate, width);
    const right = place(span, turn.end / rate, width);
    pen.globalAlpha = turn.final ? 1 : 0.45;
    pen.beginPath();
    pen.roundRect(left, 3, Math.max(3, right - left), height - 6, 6);
    pen.fill();
  }
  const inside = (at: number): Turn | undefined => turns.find((turn) => turn.start <= at * rate && at * rate < turn.end);
  for (const [at, peak] of levels) {
    if (!(peak > 0.004)) continue;
    const tall = Math.max(2, Math.min(1, Math.sqrt(peak)) * (height - 14));
    const turn = inside(at + BAR / 2);
    pen.fillStyle = turn?.final ? colours.paper : colours.own;
    pen.globalAlpha = turn ? 0.85 : 0.3;
    pen.fillRect(place(span, at, width) + 0.5, (height - tall) / 2, Math.max(1, BAR * PIXELS - 1.2), tall);
  }
  drawNow(pen, place(span, span.now, width), height, colours.ink);
}

export function drawNow(pen: CanvasRenderingContext2D, x: number, height: number, colour: string): void {
  pen.globalAlpha = 0.75;
  pen.fillStyle = colour;
  pen.fillRect(Math.round(x) - 1, 0, 1.5, height);
  pen.globalAlpha = 1;
}

function drawGrid(pen: CanvasRenderingContext2D, width: number, height: number, span: Span, colour: string): void {
  pen.globalAlpha = 1;
  pen.fillStyle = colour;
  for (const at of ticks(span, step(span.seconds, width))) pen.fillRect(Math.round(place(span, at, width)), 0, 1, height);
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
  for (const at of ticks(span, step(span.seconds, width))) {
    const x = place(span, at, width);
    if (x > 14 && x < width - 14) pen.fillText(say(at), x, height);
  }
}
