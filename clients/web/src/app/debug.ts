// `window.rivulet`: what tests and developers look at. docs/client-web.md describes it.

import type { App } from "./app";
import type { Chunk } from "../client/codec";
import { gains } from "./faders";
import { type Recording, Tap } from "./tap";

const milliseconds = (seconds: number | null): number | null => (seconds === null ? null : seconds * 1000);

export function debug(app: App) {
  return {
    /** A snapshot; times in ms, positions in samples of 48 kHz. */
    state() {
      const { run } = app;
      const report = run?.report ?? null;
      const gain = gains(app.stems.map((stem) => app.fader(stem)), app.listening);
      return {
        phase: app.phase,
        purpose: app.purpose,
        model: run?.ready?.model ?? null,
        mode: app.mode,
        diarizer: run?.ready?.diarizer ?? null,
        speakers: app.timeline.speakers.map((speaker) => ({ speaker, name: app.nameOf(speaker) })),
        active: app.timeline.active,
        turns: app.timeline.turns,
        shared: crossOriginIsolated,
        duration: app.song?.planes[0].length ?? null,
        position: app.position,
        sent: run?.session.sent ?? 0,
        told: run?.session.told ?? 0,
        away: app.away,
        resumes: run?.session.resumes ?? 0,
        drained: run?.drained ?? false,
        stems: app.stems.map((name, i) => ({ name, gain: gain[i], peak: report?.peaks[i] ?? 0 })),
        declared: run?.ready ? { samples: run.ready.latency_samples, ms: run.ready.latency_ms } : null,
        measured: run && {
          median: milliseconds(run.latency.median), worst: milliseconds(run.latency.worst), ear: milliseconds(run.toEar),
          turn: milliseconds(run.toTurn),
        },
        player: report && { ...report, peaks: [...report.peaks] },
        stats: run?.stats ?? null,
        failure: app.failure && { code: app.failure.code, message: app.failure.message, advice: app.failure.advice },
      };
    },

    /** Record the output that is heard. Needs a context: play or open the microphone first. */
    async tap(): Promise<{ stop(): Promise<Recording> }> {
      if (!app.output) throw new Error("nothing has been played yet: there is no audio context to record");
      return Tap.open(app.output);
    },

    /** Keep every stem that comes from now on; `stop` gives, for each name, its planes. Memory: 0.2 MB a second and plane. */
    keep(): { stop(): Record<string, Float32Array[]> } {
      const chunks: Chunk[] = [];
      const before = app.onstems;
      app.onstems = (chunk) => {
        before(chunk);
        chunks.push({ ...chunk, planes: chunk.planes.map((plane) => plane.slice()) });
      };
      return {
        stop() {
          app.onstems = before;
          const channels = chunks[0]?.channels ?? 1;
          return Object.fromEntries(app.stems.map((name, s) =>
            [name, Array.from({ length: channels }, (_, c) => joined(chunks.map((chunk) => chunk.planes[s * channels + c])))],
          ));
        },
      };
    },

    /** Resolves with its sample when all audio sent so far has come back. */
    mark: (): Promise<number> => app.run?.session.mark() ?? Promise.reject(new Error("no session is open")),
  };
}

function joined(parts: Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
