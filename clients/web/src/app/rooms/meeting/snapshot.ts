// What the meeting room tells tests and developers: plain values; times in ms, positions in samples.

import type { Meeting } from "./meeting";

export function snapshot(meeting: Meeting): Record<string, unknown> {
  const { ready, line, book, tracks } = meeting;
  const { replay } = meeting.playing;
  const report = replay?.report ?? null;
  const peaks = report?.peaks ?? line?.peaks;
  const { gains } = meeting;
  return {
    phase: meeting.phase, playback: meeting.playing.state, origin: meeting.origin, mode: ready?.mode ?? null, model: ready?.model ?? null,
    diarizer: ready?.diarizer ?? null, position: meeting.position, length: meeting.length, told: meeting.told,
    sent: line?.sent ?? 0, away: meeting.away, transport: meeting.options.transport, speaking: [...meeting.speaking],
    speakers: book.speakers.map((speaker) => ({ speaker, name: meeting.nameOf(speaker) })),
    turns: book.turns, active: [...meeting.active],
    stems: meeting.stems.map((name, i) => ({ name, gain: gains[i], peak: peaks?.[i] ?? 0 })),
    declared: ready && { samples: ready.latency_samples, ms: ready.latency_ms },
    measured: line && { median: line.figures.arrival, worst: line.figures.worst, ear: line.figures.ear, turn: line.figures.turn },
    player: report && { ...report, peaks: [...report.peaks] },
    kept: { bytes: tracks.bytes, from: tracks.from, end: tracks.end },
  };
}
