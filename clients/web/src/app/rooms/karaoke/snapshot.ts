// What `window.rivulet.state()` tells of this room: plain values; positions in samples of the song, times in ms.

import type { Film } from "./film";
import type { Karaoke } from "./karaoke";

export function snapshot(room: Karaoke, film: Film): Record<string, unknown> {
  const { deck, ready, gains } = room;
  const report = deck?.player?.report ?? null;
  const fill = deck?.fill ?? null;
  const ms = (seconds: number | null | undefined): number | null => (seconds == null ? null : 1000 * seconds);
  return {
    phase: deck === null ? "idle" : deck.playing ? "playing" : deck.position >= deck.length ? "ended" : "paused",
    busy: room.busy,
    song: room.song?.name ?? null,
    duration: deck?.length ?? null,
    position: deck?.position ?? 0,
    ear: deck?.ear ?? 0,
    model: ready?.model ?? null,
    stems: room.stems.map((name, i) => ({ name, gain: gains[i], peak: report?.peaks[i] ?? 0 })),
    held: deck?.cache?.held.all ?? [],
    bytes: deck?.cache?.bytes ?? 0,
    complete: deck?.cache?.complete ?? false,
    whole: deck?.whole ?? null,
    loop: deck?.loop ?? null,
    stretch: deck?.stretch ?? null,
    sessions: fill?.sessions ?? 0,
    open: fill?.session != null,
    files: fill?.files ?? null,
    sent: fill?.sent ?? 0,
    front: fill?.front ?? 0,
    stopped: fill?.stopped ?? false,
    away: room.away,
    resumes: (fill?.resumes ?? 0) + (fill?.session?.resumes ?? 0),
    declared: ready && { samples: ready.latency_samples, ms: ready.latency_ms },
    measured: fill && { median: ms(fill.latency.median), worst: ms(fill.latency.worst) },
    player: report && { ...report, peaks: [...report.peaks] },
    stats: room.stats,
    film: film.ahead,
    recording: room.recorder?.seconds ?? null,
  };
}
