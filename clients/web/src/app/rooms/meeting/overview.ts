// The whole meeting at a glance: everybody's turns on one strip, and the place that the lanes show. A canvas: an hour has
// thousands of turns.

import type { Book } from "./book";
import { type Span, drawNow } from "./span";

export interface Glance {
  seconds: number; // of the whole
  rate: number;
  colours: readonly string[]; // a person
  ink: string;
  window: Span;
}

export function drawOverview(pen: CanvasRenderingContext2D, width: number, height: number, book: Book, glance: Glance): void {
  const { seconds, rate, colours, ink, window } = glance;
  const x = (at: number): number => (at / Math.max(1, seconds)) * width;
  const tall = height / Math.max(1, book.speakers.length);
  book.speakers.forEach((speaker, row) => {
    pen.fillStyle = colours[speaker] ?? ink;
    for (const { start, end } of book.of(speaker)) {
      const left = x(start / rate);
      pen.fillRect(left, row * tall + 1, Math.max(1, x(end / rate) - left), Math.max(1, tall - 2));
    }
  });
  pen.globalAlpha = 0.1;
  pen.fillStyle = ink;
  const left = x(Math.max(0, window.from));
  pen.fillRect(left, 0, x(window.from + window.seconds) - left, height);
  drawNow(pen, x(window.now), height, ink);
}
