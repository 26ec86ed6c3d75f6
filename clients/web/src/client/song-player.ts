// The page's half of the song player: reads the cache onto the tape, and the tape into the ring of one AudioWorkletNode, a second
// ahead of the ear. A seek opens another ring, into which the sound of the first one fades.

import type { Cache } from "./song-cache";
import type { Interval } from "./song-intervals";
import type { SongOptions, SongReport, Stretch, ToSong } from "./song-messages";
import url from "./song-processor.ts?worker&url";
import { type Cut, SEAM, Tape } from "./song-tape";
import type { Policy } from "./mixer";
import { Ring } from "./ring";

const AHEAD = 1; // s of tape before the ear; more when the ring has learned to wait for more
const PIECE = 8192; // samples put on the tape at once
const STORE = 5; // s

/** Starts as soon as there is a little; after having run dry, with ever more. */
export function policy(rate: number): Policy {
  const seconds = (value: number): number => Math.round(value * rate);
  return { target: seconds(0.1), step: seconds(0.5), cap: seconds(4), slack: Infinity, rate };
}

let kept: Promise<Blob | null> | null = null;

/** Fetches the audio thread's code now, so that a song can be played for the first time when the server has gone. */
export function prepare(): void {
  kept ??= fetch(url).then((answer) => (answer.ok ? answer.blob() : null)).catch(() => (kept = null));
}

async function addModule(context: BaseAudioContext): Promise<void> {
  try {
    await context.audioWorklet.addModule(url);
  } catch (error) {
    const code = await kept;
    if (!code) throw error;
    await context.audioWorklet.addModule(URL.createObjectURL(code));
  }
}

export class SongPlayer {
  onreport: (report: SongReport) => void = () => {};
  report: SongReport | null = null;
  stretch: Stretch = { rate: 1, semitones: 0 };
  loop: Interval | null = null;
  private tape = new Tape();
  private ring: Ring | null = null;
  private opened = 0;
  private ended = false;
  private readonly planes: Float32Array[];
  private readonly under: Float32Array[];

  private constructor(private readonly node: AudioWorkletNode, private readonly cache: Cache, private readonly rate: number) {
    this.planes = Array.from({ length: cache.planes }, () => new Float32Array(PIECE));
    this.under = Array.from({ length: cache.planes }, () => new Float32Array(SEAM));
    node.port.onmessage = (event: MessageEvent<SongReport>) => this.take(event.data);
  }

  static async open(context: BaseAudioContext, cache: Cache, stems: number, rate: number): Promise<SongPlayer> {
    await addModule(context);
    const options: SongOptions = { stems, channels: cache.planes / stems, policy: policy(rate) };
    const made = { numberOfInputs: 0, outputChannelCount: [2], processorOptions: options };
    return new SongPlayer(new AudioWorkletNode(context, "rivulet-song", made), cache, rate);
  }

  get output(): AudioNode {
    return this.node;
  }

  /** The sample of the song that is played next, as far as is known here. */
  get position(): number {
    return this.tape.songAt(this.heard);
  }

  /** The sample of the song that leaves the audio thread at `time` of the context. */
  positionAt(time: number): number {
    const { report } = this;
    if (report === null || report.opened !== this.opened) return this.position;
    const moved = report.phase === "playing" ? (time - report.time) * this.rate * this.stretch.rate : 0;
    return this.tape.songAt(Math.max(this.start, Math.min(this.tape.at, report.position + Math.round(moved))));
  }

  /** The sample of the song that is needed next. */
  get front(): number {
    return this.tape.song;
  }

  private get heard(): number {
    return this.report?.opened === this.opened ? this.report.position : this.start;
  }
  private start = 0; // of this opening, on the tape

  /** To sample `song`, faded into. */
  jump(song: number): void {
    this.tape.jump(song);
    this.start = this.tape.at;
    this.opened += 1;
    this.ended = false;
    const origin = this.start;
    const capacity = STORE * this.rate;
    const memory = Ring.shareable ? Ring.memory(this.cache.planes, capacity, true, origin) : null;
    this.ring = memory && new Ring(memory, origin);
    if (memory) this.lay(); // first, so that nothing is waited for between the old sound and the new
    this.tell({ type: "open", origin, memory, capacity, stretch: this.stretch });
    this.feed();
  }

  /** What lies on the tape already is taken back where it would play otherwise now. */
  setLoop(loop: Interval | null): void {
    this.loop = loop;
    const { position } = this;
    const straight = this.tape.at - this.heard === this.tape.song - position;
    const passed = loop !== null && position < loop.end && this.tape.song > loop.end - SEAM;
    if (!straight || passed || this.ended) this.jump(position);
  }

  setStretch(stretch: Stretch): void {
    const plain = ({ rate, semitones }: Stretch): boolean => rate === 1 && semitones === 0;
    const changes = plain(stretch) !== plain(this.stretch);
    const { position } = this;
    this.stretch = stretch;
    if (changes) this.jump(position);
    else this.tell({ type: "stretch", stretch });
  }

  setGains(gains: number[]): void {
    this.tell({ type: "gains", gains });
  }

  setPaused(paused: boolean): void {
    this.tell({ type: "pause", paused });
  }

  /** Puts on the tape what is here and wanted. Call it when more has come. */
  feed(): void {
    this.lay();
    if (this.ended || this.loop !== null || this.tape.song < this.cache.length) return;
    this.ended = true;
    this.tell({ type: "end", at: this.tape.at });
  }

  private lay(): void {
    const held = this.cache.held;
    const target = this.report?.opened === this.opened ? this.report.target : 0;
    const until = this.heard + Math.max(AHEAD * this.rate, target + 2 * PIECE);
    while (this.tape.at < until) {
      const start = this.tape.at;
      const cut = this.tape.next(PIECE, this.cache.length, this.loop, (from) => held.through(from));
      if (cut === null) break;
      this.write(start, this.compose(cut));
    }
  }

  /** Fades out, then goes. */
  close(): void {
    this.tell({ type: "quit" });
    this.node.port.onmessage = null;
    setTimeout(() => this.node.disconnect(), 200);
  }

  private compose({ song, frames, seam }: Cut): Float32Array[] {
    this.cache.read(song, frames, this.planes);
    if (seam !== null) {
      this.cache.read(seam.under, frames, this.under);
      this.planes.forEach((plane, p) => {
        for (let i = 0; i < frames; i += 1) plane[i] += ((seam.done + i + 1) / (SEAM + 1)) * (this.under[p][i] - plane[i]);
      });
    }
    return this.planes.map((plane) => plane.subarray(0, frames));
  }

  private write(start: number, planes: Float32Array[]): void {
    if (this.ring) return this.ring.write(start, planes);
    const given = planes.map((plane) => plane.slice());
    this.tell({ type: "stems", start, planes: given }, given.map((plane) => plane.buffer));
  }

  private take(report: SongReport): void {
    if (report.opened !== this.opened) return;
    this.report = report;
    this.feed();
    this.onreport(report);
  }

  private tell(message: ToSong, transfer: Transferable[] = []): void {
    this.node.port.postMessage(message, transfer);
  }
}
