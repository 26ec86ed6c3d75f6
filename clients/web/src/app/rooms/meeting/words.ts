// A meeting in words: who spoke how long, when, and what is going on.

import { clock } from "../../ui/text";
import type { Book } from "./book";
import type { Meeting } from "./meeting";

/** `1:23`, and the share of all that was said. */
export function spoken(book: Book, speaker: number, rate: number): string {
  const time = (one: number): number => book.of(one).reduce((sum, { start, end }) => sum + end - start, 0);
  const all = book.speakers.reduce((sum, one) => sum + time(one), 0);
  const own = time(speaker);
  return all > 0 ? `${clock(own / rate)} · ${Math.round((100 * own) / all)} %` : "";
}

/** Who speaks now, as a sentence. */
export function now(meeting: Meeting): string {
  const { speaking, book } = meeting;
  const named = speaking.filter((speaker) => book.speakers.includes(speaker)).map((speaker) => meeting.nameOf(speaker));
  if (named.length > 0) return `${named.join(" and ")} ${named.length > 1 ? "speak" : "speaks"}.`;
  return book.speakers.length === 0 ? "Nobody has spoken yet. Everybody gets a lane when they do." : "Nobody speaks.";
}

/** Tenths of a second, for lists: `1:02.4`. */
export const tenths = (seconds: number): string => `${clock(seconds)}.${Math.floor((seconds * 10) % 10)}`;

/** The final turns as lines to read. */
export function lines(meeting: Meeting): string {
  const rate = meeting.ready?.rate ?? 1;
  return meeting.book.turns
    .filter((turn) => turn.final)
    .map(({ speaker, start, end }) => `[${tenths(start / rate)} - ${tenths(end / rate)}] ${meeting.nameOf(speaker)}\n`)
    .join("");
}

/** What is going on, in one sentence. */
export function status(meeting: Meeting): string {
  const { phase, live, length, told } = meeting;
  if (phase === "decoding") return "Reading the recording…";
  if (phase === "asking") return meeting.origin === "tab" ? "Choose a tab, and share its sound." : "Waiting for the microphone: allow it if the browser asks.";
  if (phase === "connecting") return "Connecting…";
  if (phase === "ending") return "Waiting for the last words…";
  if (phase === "paused") return "Paused: nothing is sent.";
  if (phase === "hearing" && live) return hearing(meeting);
  const heard = phase === "hearing" && length !== null ? `Heard ${clock(told / 48_000)} of ${clock(length / 48_000)}. ` : "";
  if (meeting.playing.state === "playing") return `${heard}Playing.`;
  if (phase === "failed") return "Stopped.";
  if (phase === "done") return meeting.playable ? "All of it is here. Play it, or take it away." : "All of it is here.";
  return heard || "Choose what to hear.";
}

function hearing(meeting: Meeting): string {
  const what = meeting.origin === "tab" ? "the tab" : "the microphone";
  if (meeting.stems.length === 0) return `Hearing ${what}.`;
  if (meeting.listening) return `Hearing and playing ${what}.`;
  return `Hearing ${what}, silent here. To listen, put on headphones first: loudspeakers would feed back.`;
}
