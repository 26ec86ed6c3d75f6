// What is known of one call: how much went up, which sample is heard, and how late that is.

import type { Media } from "./codec";
import { Aligner, type Played, played } from "./peer-align";
import { PeerStats, sampleOf } from "./peer-stats";

const RATE = 48_000; // of Opus in RTP, whatever is inside (RFC 7587, section 4.1)
const STALE = 200; // ms after which a timestamp is not carried on any further
const MOST = 1000; // ms that a jitter buffer may be asked to hold

export class Measure {
  readonly figures = new PeerStats();
  media: Media | null = null;
  /** ms from a sample's going up to its sound. */
  ear: number | null = null;
  private over = false;

  private readonly aligner = new Aligner();

  /** `jitter`: ms that all jitter buffers aim at, at least. `hold`: a track has to be held back by so many seconds. */
  constructor(
    private readonly pc: RTCPeerConnection, private readonly jitter: number, private readonly hold: (mid: string, seconds: number) => void,
  ) {}

  /** `device`: s that the output needs. */
  async take(device: number): Promise<void> {
    const rows = [...(await this.pc.getStats()).values()];
    if (this.over) return;
    this.figures.take(rows);
    // All jitter buffers aim at what the worst of them needs: stems that wait differently are not together.
    const aim = Math.max(this.jitter, this.figures.network?.needed ?? 0);
    for (const { receiver } of this.pc.getTransceivers()) receiver.jitterBufferTarget = Math.min(aim, MOST);
    for (const [mid, delay] of this.aligner.look(this.played(rows))) this.hold(mid, delay / RATE);
    const { heard } = this;
    if (heard !== null && this.figures.sent > 0) this.ear = (1000 * (this.figures.sent - heard)) / RATE + 1000 * device;
  }

  /** By mid: what every receiver that plays has done. */
  private played(rows: readonly Record<string, unknown>[]): Map<string, Played> {
    const receivers = new Map(this.pc.getTransceivers().map(({ mid, receiver }) => [mid, receiver]));
    const playing = rows.filter((row) => row.type === "inbound-rtp" && row.kind === "audio" && typeof row.mid === "string");
    return new Map(playing.map((row) => {
      const mid = row.mid as string;
      const clock = this.media?.clocks?.find((one) => one.mid === mid);
      return [mid, played(row, clock, receivers.get(mid)?.getSynchronizationSources()[0])];
    }));
  }

  /** The session's sample that is heard of the clock's track now; null while that is not known. */
  get heard(): number | null {
    const clock = this.media?.clock;
    const receiver = clock && this.pc.getTransceivers().find((one) => one.mid === clock.mid)?.receiver;
    const [last] = receiver?.getSynchronizationSources() ?? [];
    if (!clock || last === undefined) return null;
    const since = performance.timeOrigin + performance.now() - last.timestamp;
    return sampleOf(clock, last.rtpTimestamp) + (Math.min(STALE, Math.max(0, since)) * RATE) / 1000 - this.aligner.delayOf(clock.mid);
  }

  close(): void {
    this.over = true;
  }
}
