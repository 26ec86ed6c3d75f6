// The browser's own figures of a WebRTC connection (W3C webrtc-stats), and what follows from them.
//
// How late is what is heard? The session's timeline is the sender's RTP timeline from its first packet. So the samples that went
// up so far, less the session's sample that is being played, are the way there and back with all that lies on it, measured by
// one clock. Which sample is being played: the receiver tells the RTP timestamp that it played last, and the server which
// output sample had which RTP timestamp.

import type { Media } from "./codec";

const RATE = 48_000; // of Opus in RTP, whatever is inside (RFC 7587, section 4.1)
const FRAMES = [2.5, 5, 10, 20, 40, 60, 80, 100, 120]; // ms that a packet may hold

/** ms, unless it says otherwise; of all receivers together. */
export interface Network {
  roundTrip: number | null;
  jitterBuffer: number | null; // that sound waited in the browser, over the last second
  target: number | null; // what the jitter buffers aim at
  needed: number | null; // what the network makes the worst of them need
  lost: number; // packets, on the way down
  received: number;
  concealed: number; // samples that the browser made up
  stretched: number; // samples that it put in or took out, to wait longer or less long
  played: number; // samples, of one stem
  spread: number; // how far the stems' waits differ
}

interface Waited {
  delay: number; // s, summed over samples; so are the next two
  target: number;
  needed: number;
  emitted: number; // samples
}

type Row = Record<string, unknown> & { type: string; kind?: string };

const numberOf = (row: Row | undefined, name: string): number => (typeof row?.[name] === "number" ? (row[name] as number) : 0);
const sum = (rows: readonly Row[], name: string): number => rows.reduce((all, row) => all + numberOf(row, name), 0);

export class PeerStats {
  network: Network | null = null;
  private packets = 0;
  private frame = 20; // ms a packet that goes up
  private first: { packets: number; seconds: number } | null = null;
  private readonly waited = new Map<string, Waited>();

  /** Samples that went up. */
  get sent(): number {
    return (this.packets * this.frame * RATE) / 1000;
  }

  take(rows: readonly Row[]): void {
    const up = rows.find((row) => row.type === "outbound-rtp" && row.kind === "audio");
    const source = rows.find((row) => row.type === "media-source" && row.kind === "audio");
    this.packets = numberOf(up, "packetsSent");
    const given = typeof source?.totalSamplesDuration === "number" ? source.totalSamplesDuration : numberOf(up, "timestamp") / 1000;
    this.learnFrame(this.packets, given);
    const down = rows.filter((row) => row.type === "inbound-rtp" && row.kind === "audio");
    const waits = down.map((row) => this.wait(row)).filter((wait) => wait !== null);
    const pair = rows.find((row) => row.type === "candidate-pair" && row.nominated === true && row.state === "succeeded");
    const trip = numberOf(pair, "currentRoundTripTime");
    this.network = {
      roundTrip: trip > 0 ? 1000 * trip : null,
      jitterBuffer: mean(waits.map((wait) => wait.delay)),
      target: mean(waits.map((wait) => wait.target)),
      needed: waits.length > 0 ? Math.max(...waits.map((wait) => wait.needed)) : null,
      lost: sum(down, "packetsLost"),
      received: sum(down, "packetsReceived"),
      concealed: sum(down, "concealedSamples"),
      stretched: sum(down, "insertedSamplesForDeceleration") + sum(down, "removedSamplesForAcceleration"),
      played: Math.max(0, ...down.map((row) => numberOf(row, "totalSamplesReceived"))),
      spread: spread(waits.map((wait) => wait.delay)),
    };
  }

  // Packets say no duration: it is what the microphone gave, by the packets that went. Firefox does not say what it gave: then it is the
  // time that passed.
  private learnFrame(packets: number, seconds: number): void {
    if (packets === 0) return;
    this.first ??= { packets, seconds };
    const more = packets - this.first.packets;
    if (more < 25) return;
    const held = (1000 * (seconds - this.first.seconds)) / more;
    this.frame = FRAMES.reduce((best, one) => (Math.abs(Math.log(one / held)) < Math.abs(Math.log(best / held)) ? one : best));
  }

  /** ms that one stem's samples waited since the last time, on average. */
  private wait(row: Row): Omit<Waited, "emitted"> | null {
    const of = (name: string): number => numberOf(row, `jitterBuffer${name}`);
    const now = { delay: of("Delay"), target: of("TargetDelay"), needed: of("MinimumDelay"), emitted: of("EmittedCount") };
    const before = this.waited.get(String(row.id)) ?? { delay: 0, target: 0, needed: 0, emitted: 0 };
    this.waited.set(String(row.id), now);
    const samples = now.emitted - before.emitted;
    const since = (name: keyof Waited): number => (1000 * (now[name] - before[name])) / samples;
    return samples > 0 ? { delay: since("delay"), target: since("target"), needed: since("needed") } : null;
  }
}

const mean = (values: readonly number[]): number | null =>
  values.length > 0 ? values.reduce((all, one) => all + one, 0) / values.length : null;

const spread = (values: readonly number[]): number => (values.length > 0 ? Math.max(...values) - Math.min(...values) : 0);

/** The session's sample that an RTP timestamp of the clock's track stands for; timestamps wrap at 2^32. */
export const sampleOf = (clock: NonNullable<Media["clock"]>, rtp: number): number => clock.sample + ((rtp - clock.rtp) | 0);
