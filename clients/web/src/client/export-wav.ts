// A WAV file (RIFF) of PCM, 16 or 24 bits, from pieces of sound: nothing but the file itself is in memory.

const HEADER = 44; // bytes

export type Bits = 16 | 24;

/** The next `frames` samples of a sound from sample `at` on: `[C][frames]`, good until the next call. */
export type Read = (at: number, frames: number) => readonly Float32Array[];

const PIECE = 1 << 16; // samples at once

/** Rounded to nearest, clipped at full scale. Throws where RIFF's sizes, 32 bits, do not suffice: 4 GB. */
export function wav(read: Read, length: number, channels: number, rate: number, bits: Bits): Blob {
  const bytes = (length * channels * bits) / 8;
  const parts: ArrayBuffer[] = [header(bytes, channels, rate, bits)];
  for (let at = 0; at < length; at += PIECE) {
    const frames = Math.min(PIECE, length - at);
    parts.push(bits === 16 ? pcm16(read(at, frames), frames) : pcm24(read(at, frames), frames));
  }
  return new Blob(parts, { type: "audio/wav" });
}

/** Full scale is `2 ** (bits - 1)`. */
export const quantised = (sample: number, bits: Bits): number => {
  const full = 2 ** (bits - 1);
  return Math.max(-full, Math.min(full - 1, Math.round(full * sample)));
};

function pcm16(planes: readonly Float32Array[], frames: number): ArrayBuffer {
  const out = new Int16Array(frames * planes.length);
  planes.forEach((plane, c) => {
    for (let i = 0; i < frames; i += 1) out[i * planes.length + c] = quantised(plane[i], 16);
  });
  return out.buffer;
}

function pcm24(planes: readonly Float32Array[], frames: number): ArrayBuffer {
  const out = new Uint8Array(3 * frames * planes.length);
  planes.forEach((plane, c) => {
    for (let i = 0; i < frames; i += 1) {
      const value = quantised(plane[i], 24);
      out.set([value & 255, (value >> 8) & 255, (value >> 16) & 255], 3 * (i * planes.length + c));
    }
  });
  return out.buffer;
}

/** What stands before `bytes` of samples. Throws beyond 4 GB. */
export function header(bytes: number, channels: number, rate: number, bits: Bits): ArrayBuffer {
  if (HEADER + bytes > 2 ** 32) throw new Error(`got ${bytes} bytes of sound, a WAV file holds at most 4 GB`);
  const head = new DataView(new ArrayBuffer(HEADER));
  const text = (at: number, word: string): void => [...word].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  const frame = (channels * bits) / 8;
  text(0, "RIFF");
  head.setUint32(4, HEADER - 8 + bytes, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); // PCM
  head.setUint16(22, channels, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, rate * frame, true);
  head.setUint16(32, frame, true);
  head.setUint16(34, bits, true);
  text(36, "data");
  head.setUint32(40, bytes, true);
  return head.buffer;
}
