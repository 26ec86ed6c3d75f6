// The audio thread's half of the song player: chains, of which the newest plays and older ones fade out, and a report every
// few quanta.

import { Mixer, QUANTUM } from "./mixer";
import { Ring } from "./ring";
import { Chain } from "./song-chain";
import type { SongOptions, SongReport, Stretch, ToSong } from "./song-messages";
import { Engine } from "./song-stretch";

const REPORT_EVERY = 12; // quanta: 32 ms at 48 kHz, two video frames

class SongProcessor extends AudioWorkletProcessor {
  private readonly options: SongOptions;
  private chain: Chain | null = null;
  private leaving: Chain[] = [];
  private engines: Engine[] = []; // two: while one fades out the other begins
  private gains: number[] | null = null;
  private paused = true;
  private over = false;
  private opened = 0;
  private underruns = 0; // of chains before this one
  private quanta = 0;
  private readonly scratch = [0, 1].map(() => new Float32Array(QUANTUM));

  constructor({ processorOptions }: { processorOptions: SongOptions }) {
    super();
    this.options = processorOptions;
    this.port.onmessage = (event: MessageEvent<ToSong>) => this.obey(event.data);
  }

  process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const [left, right] = outputs[0];
    this.chain?.process(left, right);
    for (const old of this.leaving) this.add(old, left, right);
    this.leaving = this.leaving.filter((old) => !old.gone);
    this.quanta += 1;
    if (this.quanta % REPORT_EVERY === 0) this.report();
    return !this.over || this.leaving.length > 0;
  }

  private add(old: Chain, left: Float32Array, right: Float32Array): void {
    const [a, b] = this.scratch;
    old.process(a, b);
    for (let i = 0; i < left.length; i += 1) {
      left[i] += a[i];
      right[i] += b[i];
    }
  }

  private obey(message: ToSong): void {
    const { chain } = this;
    if (message.type === "open") this.open(message);
    else if (message.type === "stems") chain?.mixer.ring.write(message.start, message.planes);
    else if (message.type === "gains") {
      this.gains = message.gains;
      chain?.mixer.setGains(message.gains);
    } else if (message.type === "pause") {
      this.paused = message.paused;
      chain?.mixer.setPaused(message.paused);
    } else if (message.type === "stretch") chain?.setStretch(message.stretch);
    else if (message.type === "end") chain?.mixer.setEnd(message.at);
    else {
      this.leave();
      this.over = true;
    }
  }

  private open({ origin, memory, capacity, stretch }: ToSong & { type: "open" }): void {
    const { stems, channels, policy } = this.options;
    this.leave();
    const ring = new Ring(memory ?? Ring.memory(stems * channels, capacity, false, origin), origin);
    const mixer = new Mixer(ring, stems, channels, policy);
    if (this.gains) mixer.setGains(this.gains);
    mixer.setPaused(this.paused);
    this.chain = new Chain(mixer, this.engine(stretch), stretch);
    this.opened += 1;
  }

  private leave(): void {
    if (this.chain === null) return;
    this.underruns += this.chain.mixer.underruns;
    this.chain.leave();
    this.leaving.push(this.chain);
    this.chain = null;
  }

  private engine({ rate, semitones }: Stretch): Engine | null {
    if (rate === 1 && semitones === 0) return null;
    while (this.engines.length < 2) this.engines.push(new Engine(this.options.policy.rate));
    this.engines.reverse();
    return this.engines[0];
  }

  private report(): void {
    if (this.chain === null) return;
    const { mixer, phase, position } = this.chain;
    const peaks = mixer.takePeaks();
    const report: SongReport = {
      opened: this.opened, phase, position, time: currentTime, buffered: mixer.ring.available, target: mixer.target,
      underruns: this.underruns + mixer.underruns, peaks,
    };
    this.port.postMessage(report, [peaks.buffer]);
  }
}

registerProcessor("rivulet-song", SongProcessor);
