// The turns of a conversation as files: NIST's Rich Transcription Time Marked, and JSON.

import type { Turn } from "./turns";

export interface Conversation {
  recording: string; // what it is called
  rate: number;
  origin: number; // of the turns, in samples of the recording
  model: string;
  diarizer: string;
  turns: readonly Turn[];
  nameOf(speaker: number): string;
}

/** RTTM separates its fields by spaces. */
const word = (text: string): string => text.trim().replace(/\s+/g, "_") || "_";

const ms = ({ rate, origin }: Conversation, sample: number): number => Math.round((1000 * (origin + sample)) / rate);

export function rttm(told: Conversation): string {
  const { recording, turns, nameOf } = told;
  return turns
    .map(({ speaker, start, end }) => {
      const [from, to] = [ms(told, start), ms(told, end)];
      const times = [from, to - from].map((time) => (time / 1000).toFixed(3)).join(" ");
      return `SPEAKER ${word(recording)} 1 ${times} <NA> <NA> ${word(nameOf(speaker))} <NA> <NA>\n`;
    })
    .join("");
}

/** As `rivulet diarize --json`, and what told it; `track`: from 1, in the order in which people first spoke. */
export function json(told: Conversation): string {
  const { recording, model, diarizer, nameOf } = told;
  const turns = told.turns.map(({ speaker, start, end, final }) => ({
    speaker: nameOf(speaker), start: ms(told, start) / 1000, end: ms(told, end) / 1000, track: speaker + 1, final,
  }));
  const speakers = [...new Set(turns.map((turn) => turn.speaker))];
  return `${JSON.stringify({ recording, speakers, model, diarizer, turns }, null, 1)}\n`;
}

/** What the file is called, without its ending: nothing that a file system would not take. */
export const stem = (recording: string): string => recording.replace(/\.[^.]{1,5}$/, "").replace(/[^\p{L}\p{N} ._-]+/gu, "_") || "conversation";
