// What somebody takes away of a song: its stems, one file each or all as one, and the mix as the faders stand.

import { stem as plainName } from "../../../client/export";
import { louder, mixOf, peakOf, stemOf } from "../../../client/export-stems";
import { type Read, wav } from "../../../client/export-wav";
import { type Named, save, zip } from "../../../client/export-zip";
import { Failure } from "../../../client/errors";
import type { Deck } from "../../../client/song";

export const FORMATS = { "wav-16": "WAV, 16 bit", "wav-24": "WAV, 24 bit", flac: "FLAC" } as const;
export type Format = keyof typeof FORMATS;

const CLIPPED = 1 - 2 ** -15; // the loudest sample that 16 bits hold

async function write(name: string, read: Read, length: number, channels: number, rate: number, format: Format): Promise<Named> {
  if (format === "flac") {
    const { flac } = await import("../../../client/export-flac"); // an encoder: fetched by those who want one
    return { name: `${name}.flac`, file: await flac(read, length, channels, rate) };
  }
  return { name: `${name}.wav`, file: wav(read, length, channels, rate, format === "wav-16" ? 16 : 24) };
}

/** Throws a Failure while parts of the song are missing. */
function whole(deck: Deck): NonNullable<Deck["cache"]> {
  if (deck.cache?.complete) return deck.cache;
  throw new Failure("Not all of the song is here yet.", "Wait until it is separated, then try again.", "incomplete");
}

export function stems(deck: Deck, format: Format, which: readonly string[]): Promise<Named[]> {
  const cache = whole(deck);
  const song = plainName(deck.song.name);
  return Promise.all(
    which.map((name) => {
      const read = stemOf(cache, deck.stems.indexOf(name), deck.channels);
      return write(`${song} - ${name}`, read, cache.length, deck.channels, deck.song.rate, format);
    }),
  );
}

/** As it is heard, but for tempo and key. `quieter`: dB by which it was turned down so that nothing clips. */
export async function mix(deck: Deck, gains: readonly number[], format: Format): Promise<Named & { quieter: number }> {
  const cache = whole(deck);
  const read = mixOf(cache, gains);
  const peak = peakOf(read, cache.length);
  const gain = peak > CLIPPED ? CLIPPED / peak : 1;
  const name = `${plainName(deck.song.name)} - mix`;
  const made = await write(name, gain < 1 ? louder(read, gain) : read, cache.length, 2, deck.song.rate, format);
  return { ...made, quieter: -20 * Math.log10(gain) };
}

export async function saveStems(deck: Deck, format: Format, which: readonly string[]): Promise<void> {
  const files = await stems(deck, format, which);
  save(files.length === 1 ? files[0] : { name: `${plainName(deck.song.name)} - stems.zip`, file: await zip(files) });
}
