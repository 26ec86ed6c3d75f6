// A server that a test moves by hand: its one stem is the very song that was sent.

import type { Wire } from "./wire";

const told = new WeakMap<Wire, number>();

/** What went up: the samples of 16 bits. */
export function pcm(wire: Wire): Int16Array {
  const parts = wire.sent.filter((one) => one instanceof ArrayBuffer);
  const whole = new Int16Array(parts.reduce((sum, part) => sum + part.byteLength / 2, 0));
  parts.reduce((at, part) => (whole.set(new Int16Array(part), at), at + part.byteLength / 2), 0);
  return whole;
}

/** How many samples of the session have been answered. */
export const answered = (wire: Wire): number => told.get(wire) ?? 0;

/** Up to `samples` of the session come back, if so many go up. */
export function answer(wire: Wire, samples: number, step = 700): void {
  let heard = pcm(wire);
  for (let at = answered(wire); at < samples && wire.closed === undefined; ) {
    if (at === heard.length) heard = pcm(wire); // what came made more go up
    if (at === heard.length) return;
    const frames = Math.min(step, samples - at, heard.length - at);
    const bytes = new ArrayBuffer(16 + 2 * frames);
    const head = new DataView(bytes);
    [1, 0, 1, 1].forEach((byte, i) => head.setUint8(i, byte));
    head.setUint32(4, frames, true);
    head.setBigUint64(8, BigInt(at), true);
    new Int16Array(bytes, 16).set(heard.subarray(at, at + frames));
    told.set(wire, (at += frames));
    wire.say(bytes);
  }
}
