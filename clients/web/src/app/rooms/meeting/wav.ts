// A WAV file of 16-bit PCM. The samples are views that stay where they are: an hour is written without another copy of it.

const HEADER = 44;

/** RIFF's sizes are 32 bits: 4 GB, or 12 hours of one channel at 48 kHz. Throws beyond. */
export function wav(parts: readonly Int16Array<ArrayBuffer>[], rate: number, channels = 1): Blob {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  if (HEADER + bytes > 2 ** 32) throw new Error(`got ${bytes} bytes of sound, a WAV file holds at most 4 GB`);
  return new Blob([header(bytes, rate, channels), ...parts], { type: "audio/wav" });
}

function header(bytes: number, rate: number, channels: number): ArrayBuffer {
  const head = new DataView(new ArrayBuffer(HEADER));
  const text = (at: number, word: string): void => [...word].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, HEADER - 8 + bytes, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); // PCM
  head.setUint16(22, channels, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, rate * channels * 2, true);
  head.setUint16(32, channels * 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, bytes, true);
  return head.buffer;
}
