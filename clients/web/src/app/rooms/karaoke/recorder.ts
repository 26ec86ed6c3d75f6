// Live sound, kept until somebody says that it is a song: a microphone, or what another tab plays.

import { CaptureSource } from "../../../client/capture";
import { Failure } from "../../../client/errors";
import type { Song } from "../../../client/file";
import { microphone, tabAudio } from "../../../client/microphone";

const MOST = 15 * 60; // s

export class Recorder {
  private readonly blocks: Float32Array[][] = [];
  private frames = 0;
  onfull: () => void = () => {};

  private constructor(private readonly source: CaptureSource, private readonly rate: number) {
    source.onblock = () => this.take();
    source.setPaused(false);
  }

  /** Throws a Failure. `ended`: the device went away, or sharing was stopped. */
  static async open(context: AudioContext, from: "microphone" | "tab", ended: () => void): Promise<Recorder> {
    const stream = await (from === "tab" ? tabAudio() : microphone({ channels: 2 }));
    const source = await CaptureSource.open(context, stream, { channels: 2, ended, owned: true });
    return new Recorder(source, context.sampleRate);
  }

  get seconds(): number {
    return this.frames / this.rate;
  }

  /** Lets go of the device. Throws a Failure where nothing was heard. */
  stop(name: string): Song {
    this.take();
    this.source.close();
    if (this.frames === 0) throw new Failure("Nothing was recorded.", "Let it run for a moment before you stop it.", "no_audio");
    const planes = [0, 1].map((c) => joined(this.blocks.map((block) => block[c]), this.frames));
    return { name, rate: this.rate, planes };
  }

  close(): void {
    this.source.close();
  }

  private take(): void {
    for (let block = this.source.take(); block !== null; block = this.source.take()) {
      this.blocks.push(block.planes);
      this.frames += block.planes[0].length;
    }
    if (this.seconds > MOST) this.onfull();
  }
}

function joined(parts: readonly Float32Array[], frames: number): Float32Array {
  const whole = new Float32Array(frames);
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
