// Stems of one session that come as tracks of their own, side by side again.
//
// All tracks are pulled at the same instants, and what comes of one sample leaves the server at one instant. So they part only where
// jitter buffers put samples in, make some up or leave some out; each counts what it did, to the sample. What a lost packet held is
// made up in its place, so it makes nothing late. Where a count is off (a track that began later, packets that were thrown away), the
// RTP timestamps tell: they are exact, but of whole blocks of 10 ms only, and dated as the machine pleases. So they correct by whole
// blocks, and by the median of some looks.

import type { Clock } from "./codec";
import { sampleOf } from "./peer-stats";

const RATE = 48_000;
const BLOCK = 480; // samples that a receiver plays at a time
const LOOKS = 5; // of which the median is believed
const SURE = 48; // samples within which two looks, one after the other, agree
export const MOST = 0.2 * RATE; // samples that a stem is held back, at most

/** Of one receiver. */
export interface Played {
  late: number; // samples put in and made up, less those left out and lost
  ahead: number | null; // the session's sample that is played at the beginning of time, by the clock and its RTP timestamp
}

type Row = Record<string, unknown>;

const PACKET = 960; // samples: 20 ms, what this server sends

/** From the statistics of a receiver (W3C webrtc-stats, inbound-rtp), and what it played last. */
export function played(row: Row, clock: Clock | undefined, last: RTCRtpSynchronizationSource | undefined): Played {
  const of = (name: string): number => (typeof row[name] === "number" ? row[name] : 0);
  const put = of("insertedSamplesForDeceleration") + of("concealedSamples") - of("removedSamplesForAcceleration");
  const ahead = clock && last ? sampleOf(clock, last.rtpTimestamp) - (last.timestamp * RATE) / 1000 : null;
  return { late: put - PACKET * of("packetsLost"), ahead };
}

export class Aligner {
  private readonly shift = new Map<string, number>(); // by mid: samples that the counts are off
  private readonly seen = new Map<string, number[]>(); // by mid: the same, as the last looks saw it
  private before = new Map<string, number>(); // what was found the last time
  private readonly delays = new Map<string, number>();

  delayOf(mid: string): number {
    return this.delays.get(mid) ?? 0;
  }

  /** Samples to hold each track back, so that all are as late as the latest; of those that changed, where two looks agree. */
  look(tracks: ReadonlyMap<string, Played>): Map<string, number> {
    const late = this.lateness(tracks);
    const latest = Math.max(...late.values());
    const found = new Map([...late].map(([mid, one]) => [mid, Math.min(MOST, latest - one)]));
    const sure = [...found].every(([mid, delay]) => Math.abs(delay - (this.before.get(mid) ?? Infinity)) <= SURE);
    this.before = found;
    const changed = [...found].filter(([mid, delay]) => sure && Math.abs(delay - this.delayOf(mid)) > SURE);
    for (const [mid, delay] of changed) this.delays.set(mid, delay);
    return new Map(changed);
  }

  /** Of each, against the first. */
  private lateness(tracks: ReadonlyMap<string, Played>): Map<string, number> {
    const [first] = tracks.values();
    return new Map([...tracks].map(([mid, one]) => {
      const counted = one.late - first.late;
      if (one.ahead !== null && first.ahead !== null) this.correct(mid, first.ahead - one.ahead - counted);
      return [mid, counted + (this.shift.get(mid) ?? 0)];
    }));
  }

  /** `off`: by how much the counts were wrong, as the timestamps see it; less than a block of it is theirs. */
  private correct(mid: string, off: number): void {
    const seen = [...(this.seen.get(mid) ?? []), off].slice(-LOOKS);
    this.seen.set(mid, seen);
    const median = seen.toSorted((a, b) => a - b)[LOOKS >> 1];
    if (seen.length < LOOKS || Math.abs(median - (this.shift.get(mid) ?? 0)) <= BLOCK + SURE) return;
    this.shift.set(mid, BLOCK * Math.round(median / BLOCK));
  }
}
