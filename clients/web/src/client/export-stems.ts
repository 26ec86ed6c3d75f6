// What of a song is taken away: its stems, or their mix as the faders stand. Read piece by piece from the cache.

import type { Read } from "./export-wav";
import type { Cache } from "./song-cache";

const PIECE = 1 << 16; // samples at once

/** One stem. */
export function stemOf(cache: Cache, stem: number, channels: number): Read {
  const all = planesOf(cache);
  return (at, frames) => all(at, frames).slice(stem * channels, (stem + 1) * channels);
}

/** Stereo; mono stems go to both sides, as when they are heard. One gain a stem. */
export function mixOf(cache: Cache, gains: readonly number[]): Read {
  const channels = cache.planes / gains.length;
  const all = planesOf(cache);
  return (at, frames) => {
    const planes = all(at, frames);
    return [0, channels - 1].map((side) => {
      const sum = new Float32Array(frames);
      gains.forEach((gain, stem) => {
        const plane = planes[stem * channels + side];
        for (let i = 0; gain !== 0 && i < frames; i += 1) sum[i] += gain * plane[i];
      });
      return sum;
    });
  };
}

/** The loudest sample. */
export function peakOf(read: Read, length: number): number {
  let most = 0;
  for (let at = 0; at < length; at += PIECE) {
    for (const plane of read(at, Math.min(PIECE, length - at))) {
      for (const sample of plane) most = Math.max(most, Math.abs(sample));
    }
  }
  return most;
}

/** Every sample times `gain`. */
export const louder = (read: Read, gain: number): Read =>
  (at, frames) => read(at, frames).map((plane) => plane.map((sample) => gain * sample));

function planesOf(cache: Cache): Read {
  let planes: Float32Array[] = [];
  return (at, frames) => {
    if (planes[0]?.length !== frames) planes = Array.from({ length: cache.planes }, () => new Float32Array(frames));
    cache.read(at, frames, planes);
    return planes;
  };
}
