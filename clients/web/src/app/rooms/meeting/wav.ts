// A WAV file of 16-bit PCM. The samples are views that stay where they are: an hour is written without another copy of it.

import { header } from "../../../client/export-wav";

/** RIFF's sizes are 32 bits: 4 GB, or 12 hours of one channel at 48 kHz. Throws beyond. */
export function wav(parts: readonly Int16Array<ArrayBuffer>[], rate: number, channels = 1): Blob {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  return new Blob([header(bytes, channels, rate, 16), ...parts], { type: "audio/wav" });
}
