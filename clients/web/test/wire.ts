// A socket that a test speaks through, and the handlers that it watches.

import { vi } from "vitest";
import golden from "../../../tests/golden_wire.json";
import type { Handlers } from "../src/client/session";
import type { Socket } from "../src/client/socket";

export const READY = { ...golden.server[0], stems: ["mix"], channels: 1, rate: 48000 };
export const START = { type: "start", model: "music", rate: 48000, channels: 1, format: "s16le" } as const;

export class Wire implements Socket {
  binaryType = "";
  bufferedAmount = 0;
  sent: (string | ArrayBuffer)[] = [];
  closed: number | undefined;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  send = (data: string | ArrayBuffer): void => void this.sent.push(data);
  close = (code?: number): void => void (this.closed = code);
  say = (message: object): void => this.onmessage?.({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  drop = (code = 1006, reason = ""): void => this.onclose?.({ code, reason });

  /** What went up: text as objects, audio as its samples. */
  get heard(): unknown[] {
    return this.sent.map((one) => (typeof one === "string" ? JSON.parse(one) : [...new Int16Array(one)]));
  }
}

export type Watched = { [K in keyof Handlers]: ReturnType<typeof vi.fn> };

export const watched = (): Watched => ({
  ready: vi.fn(), stems: vi.fn(), speakers: vi.fn(), stats: vi.fn(), notice: vi.fn(), away: vi.fn(), back: vi.fn(), done: vi.fn(), failed: vi.fn(),
});

export const handlers = (on: Watched): Handlers => on as unknown as Handlers;

/** Stems of one mono plane: `frames` samples of silence from `start` on. */
export function chunk(start: number, frames: number): ArrayBuffer {
  const bytes = new ArrayBuffer(16 + 2 * frames);
  const head = new DataView(bytes);
  [1, 0, 1, 1].forEach((byte, at) => head.setUint8(at, byte));
  head.setUint32(4, frames, true);
  head.setBigUint64(8, BigInt(start), true);
  return bytes;
}

/** Samples `from` to `to` of a ramp that tells each sample's place. */
export const ramp = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
export const plane = (from: number, to: number): Float32Array[] => [Float32Array.from(ramp(from, to), (x) => x / 32768)];
