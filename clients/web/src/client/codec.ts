// The messages of `stems.v1` to text and bytes, and back. docs/protocol.md is the law; tests/golden_wire.json holds this
// codec, the server's and the Python client's to the same bytes.

import type { Told } from "./turns";

export const PROTOCOL = "stems.v1";
export const HEADER_BYTES = 16;
const FLOAT = 1;

export type Format = "s16le" | "f32le";
export type Gains = Readonly<Record<string, number>>;

/** `separate`: the model's own outputs. `speakers`: a track a person, and who speaks when. `diarize`: the latter alone. */
export type Mode = "separate" | "speakers" | "diarize";

export interface SpeakerOptions {
  max?: number;
  diarizer?: string;
  first?: string; // a model with vocals: takes the music out before people are told apart
  exclude_overlaps?: boolean;
  min_duration_s?: number;
  gap_threshold_s?: number;
  buffer_time_s?: number;
  onset?: number;
  offset?: number;
}

export interface Start {
  type: "start";
  model: string;
  rate: number;
  channels: number;
  format: Format;
  stems?: readonly string[];
  output?: "stems" | "mix";
  gains?: Gains;
  mono?: boolean;
  latency_ms?: number;
  live?: boolean;
  mode?: Mode;
  speakers?: SpeakerOptions;
}

/** In place of `start`: go on with a session whose connection was lost. */
export interface Resume {
  type: "resume";
  token: string;
  received: number;
}

export type FromClient = Start | Resume | { type: "mark"; id: string } | { type: "gains"; gains: Gains } | { type: "end" };

export interface Ready {
  type: "ready";
  protocol: string;
  session: string;
  model: string;
  stems: readonly string[];
  rate: number;
  channels: number;
  format: Format;
  latency_samples: number;
  latency_ms: number;
  resume?: string; // these three: none from a server that cannot resume
  resume_samples?: number;
  replay_from?: number;
  mode?: Mode; // none from a server that has but one
  diarizer?: string; // what tells who speaks
  tracks?: readonly Track[]; // over WebRTC
}

/** Over WebRTC: the m-line that carries an output. */
export interface Track {
  mid: string;
  name: string;
}

/** Over WebRTC, about once a second: what the sound went through, and which output sample went out as which RTP timestamp. */
export interface Media {
  type: "media";
  jitter_ms: number;
  buffer_ms: number;
  lost: number;
  concealed: number;
  recovered: number;
  discarded: number;
  encode_ms: number;
  behind_ms: number;
  clock: Clock | null; // of the first track
  clocks?: readonly Clock[]; // of all; none from an older server
}

/** Sample `sample` of the session was the first of the packet that went out on the m-line `mid` with the RTP timestamp `rtp`. */
export interface Clock {
  sample: number;
  mid: string;
  rtp: number;
}

export interface Speakers extends Told {
  type: "speakers";
}

export interface Stats {
  type: "stats";
  heard: number;
  told: number;
  lag_ms: number;
  compute_p50_ms: number;
  compute_p95_ms: number;
  queue_p95_ms: number;
  resume?: string;
}

export type FromServer =
  | Ready
  | Stats
  | Speakers
  | Media
  | { type: "mark"; id: string; sample: number }
  | { type: "draining"; deadline_ms: number }
  | { type: "error"; code: string; message: string; fatal: boolean; retry_after_ms?: number }
  | { type: "done"; samples: number };

/** One binary message: `stems[s * channels + c]` is one plane of `frames` samples, the first at `start`. */
export interface Chunk {
  start: number;
  frames: number;
  stems: number;
  channels: number;
  planes: Float32Array[];
}

export const encode = (message: FromClient): string => JSON.stringify(message);

type Fields = Record<string, "string" | "number" | "boolean" | "object">;

const FIELDS: Record<FromServer["type"], Fields> = {
  ready: {
    protocol: "string", session: "string", model: "string", stems: "object", rate: "number", channels: "number",
    format: "string", latency_samples: "number", latency_ms: "number",
  },
  stats: {
    heard: "number", told: "number", lag_ms: "number", compute_p50_ms: "number", compute_p95_ms: "number",
    queue_p95_ms: "number",
  },
  speakers: { told: "number", active: "object", turns: "object", dropped: "object" },
  media: { jitter_ms: "number", buffer_ms: "number", encode_ms: "number", behind_ms: "number" },
  mark: { id: "string", sample: "number" },
  draining: { deadline_ms: "number" },
  error: { code: "string", message: "string", fatal: "boolean" },
  done: { samples: "number" },
};

const OPTIONAL: Fields = {
  resume: "string", resume_samples: "number", replay_from: "number", retry_after_ms: "number", mode: "string", diarizer: "string",
  tracks: "object", clock: "object", clocks: "object",
};

const TURN: Fields = { id: "number", speaker: "number", start: "number", end: "number", final: "boolean" };

/** A server's text; null for a type from the future, which the protocol lets a client ignore. */
export function decode(text: string): FromServer | null {
  const body: unknown = JSON.parse(text);
  if (typeof body !== "object" || body === null || !("type" in body)) throw new Error("got a message without a type");
  const fields = Object.hasOwn(FIELDS, String(body.type)) ? FIELDS[body.type as FromServer["type"]] : null;
  if (fields === null) return null;
  const got = body as Record<string, unknown>;
  for (const [name, kind] of Object.entries(fields)) check(String(body.type), name, got[name], kind);
  for (const [name, kind] of Object.entries(OPTIONAL)) if (got[name] != null) check(String(body.type), name, got[name], kind);
  if (body.type === "speakers") checkTurns(got);
  return body as FromServer;
}

function checkTurns(got: Record<string, unknown>): void {
  for (const name of ["active", "dropped", "turns"]) {
    if (!Array.isArray(got[name])) throw new Error(`got an object for ${name} of speakers, expected a list`);
  }
  for (const one of [...(got.active as unknown[]), ...(got.dropped as unknown[])]) check("speakers", "a number", one, "number");
  for (const turn of got.turns as Record<string, unknown>[]) {
    for (const [name, kind] of Object.entries(TURN)) check("a turn", name, turn?.[name], kind);
  }
}

function check(type: string, name: string, value: unknown, kind: string): void {
  if (typeof value !== kind) throw new Error(`got ${typeof value} for ${name} of ${type}, expected ${kind}`);
}

/** Planes to bare interleaved PCM. s16le rounds to nearest and clips at full scale, as the server does. */
export function pack(planes: readonly Float32Array[], format: Format): ArrayBuffer {
  const channels = planes.length;
  const frames = planes[0]?.length ?? 0;
  const wide = format === "f32le";
  const bytes = new ArrayBuffer(frames * channels * (wide ? 4 : 2));
  // Typed arrays use the machine's byte order: every machine with a browser is little endian.
  const out = wide ? new Float32Array(bytes) : new Int16Array(bytes);
  planes.forEach((plane, c) => {
    for (let i = 0, o = c; i < frames; i += 1, o += channels) out[o] = wide ? plane[i] : toS16(plane[i]);
  });
  return bytes;
}

/** Nearest, halves to even (numpy's rint; Math.round would send 0.5 up and differ from the other codecs by one bit). */
function toS16(sample: number): number {
  const scaled = Math.min(Math.max(sample * 32768, -32768), 32767);
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return rest === 0.5 ? floor + (floor & 1) : Math.round(scaled);
}

/** Throws an Error that names both numbers when the bytes are not one whole message of version 1. */
export function unpack(bytes: ArrayBuffer): Chunk {
  if (bytes.byteLength < HEADER_BYTES) throw new Error(`got ${bytes.byteLength} bytes, expected a header of 16`);
  const head = new DataView(bytes);
  const [version, flags, stems, channels] = [0, 1, 2, 3].map((at) => head.getUint8(at));
  if (version !== 1) throw new Error(`got version ${version} of the stems message, this page reads version 1`);
  if (flags > FLOAT) throw new Error(`got flags ${flags} in a stems message, expected 0 or 1`);
  const frames = head.getUint32(4, true);
  const start = Number(head.getBigUint64(8, true)); // exact below 2^53 samples: 5900 years at 48 kHz
  const wide = (flags & FLOAT) === 1;
  const expected = HEADER_BYTES + stems * channels * frames * (wide ? 4 : 2);
  if (bytes.byteLength !== expected) throw new Error(`got ${bytes.byteLength} bytes of stems, expected ${expected}`);
  const samples = wide ? new Float32Array(bytes, HEADER_BYTES) : new Int16Array(bytes, HEADER_BYTES);
  const scale = wide ? 1 : 1 / 32768;
  const planes: Float32Array[] = [];
  for (let s = 0; s < stems; s += 1) {
    for (let c = 0; c < channels; c += 1) {
      const plane = new Float32Array(frames);
      for (let i = 0, o = s * frames * channels + c; i < frames; i += 1, o += channels) plane[i] = samples[o] * scale;
      planes.push(plane);
    }
  }
  return { start, frames, stems, channels, planes };
}
