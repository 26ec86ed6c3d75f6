// The files that a meeting leaves: its turns as RTTM, JSON and lines to read, and everybody's track as WAV.

import { downloadZip } from "client-zip";
import { type Conversation, json, rttm, stem } from "../../../client/export";
import { make } from "../../ui/elements";
import { RATE } from "../../shell";
import type { Meeting } from "./meeting";
import { wav } from "./wav";
import { lines } from "./words";

export const KINDS = ["RTTM", "JSON", "Text"] as const;
export type Kind = (typeof KINDS)[number];

function told(meeting: Meeting): Conversation {
  const { ready, book } = meeting;
  return {
    recording: stem(meeting.name), rate: ready?.rate ?? RATE, origin: 0, model: ready?.model ?? "", diarizer: ready?.diarizer ?? "",
    turns: book.turns, nameOf: (speaker) => meeting.nameOf(speaker),
  };
}

const text = (meeting: Meeting, kind: Kind): string =>
  kind === "RTTM" ? rttm(told(meeting)) : kind === "JSON" ? json(told(meeting)) : lines(meeting);

export function saveTurns(meeting: Meeting, kind: Kind): void {
  const ending = kind === "Text" ? "txt" : kind.toLowerCase();
  give(new Blob([text(meeting, kind)], { type: "text/plain" }), `${stem(meeting.name)}.${ending}`);
}

/** One person, from the first sample that is kept to the last. */
function track(meeting: Meeting, speaker: number): Blob {
  const { tracks, ready } = meeting;
  return wav(tracks.parts(speaker, tracks.from, tracks.end), ready?.rate ?? RATE);
}

const fileOf = (meeting: Meeting, speaker: number): string => `${stem(meeting.name)} ${stem(`${meeting.nameOf(speaker)} `)}`.trim() + ".wav";

export function saveTrack(meeting: Meeting, speaker: number): void {
  give(track(meeting, speaker), fileOf(meeting, speaker));
}

/** Everybody's track and the turns, in one archive. */
export async function saveAll(meeting: Meeting): Promise<void> {
  const sounds = meeting.book.speakers.map((speaker) => ({ name: fileOf(meeting, speaker), input: track(meeting, speaker) }));
  const turns = KINDS.map((kind) => ({ name: `turns.${kind === "Text" ? "txt" : kind.toLowerCase()}`, input: text(meeting, kind) }));
  give(await downloadZip([...sounds, ...turns]).blob(), `${stem(meeting.name)}.zip`);
}

function give(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // an hour of sound takes a while to be written
}
