// The audio thread's half of the player: a ring, a mixer and a report every few quanta.

import { Drift } from "./drift";
import { Mixer } from "./mixer";
import type { PlayerOptions, Report, ToPlayer } from "./player-messages";
import { Ring } from "./ring";

const REPORT_EVERY = 12; // quanta: 32 ms at 48 kHz, two video frames

class PlayerProcessor extends AudioWorkletProcessor {
  private readonly mixer: Mixer;
  private readonly drift: Drift | null;
  private leaving = false;
  private quanta = 0;

  constructor({ processorOptions }: { processorOptions: PlayerOptions }) {
    super();
    const { stems, channels, policy, drift, shared, capacity } = processorOptions;
    const ring = new Ring(shared ?? Ring.memory(stems * channels, capacity, false));
    this.mixer = new Mixer(ring, stems, channels, policy);
    this.drift = drift ? new Drift(this.mixer) : null;
    this.port.onmessage = (event: MessageEvent<ToPlayer>) => this.obey(event.data);
  }

  process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const [left, right] = outputs[0];
    (this.drift ?? this.mixer).process(left, right);
    this.quanta += 1;
    if (this.quanta % REPORT_EVERY === 0) this.report();
    return !this.leaving || this.mixer.phase === "playing"; // leaves when it has faded out
  }

  private obey(message: ToPlayer): void {
    const { mixer } = this;
    if (message.type === "stems") mixer.ring.write(message.start, message.planes);
    else if (message.type === "gains") mixer.setGains(message.gains);
    else if (message.type === "pause") mixer.setPaused(message.paused);
    else if (message.type === "target") mixer.expect(message.chunk, message.frames);
    else if (message.type === "end") mixer.setEnd(message.at);
    else {
      mixer.setPaused(true);
      this.leaving = true;
    }
  }

  private report(): void {
    const { phase, ring, target, underruns, skipped } = this.mixer;
    const peaks = this.mixer.takePeaks();
    const report: Report = {
      phase, target, underruns, skipped, peaks,
      position: ring.readIndex, time: currentTime, buffered: ring.available, gaps: ring.gaps, ratio: this.drift?.ratio ?? 1,
    };
    this.port.postMessage(report, [peaks.buffer]);
  }
}

registerProcessor("rivulet-player", PlayerProcessor);
