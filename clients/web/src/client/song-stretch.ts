// Tempo and key of a stereo sound, by Signalsmith Stretch: so many samples in, another number out.

import { type Inner, restore } from "./song-stretch-found"; // before the package
import "signalsmith-stretch";

const Processor = restore();
const TONALITY = 8000; // Hz: above it a changed key leaves timbre where it was (the library's own default)
// The library's own lengths; its work spread over all quanta, which costs one interval more of delay: all of it in one quantum
// would take longer than the quantum.
const BLOCK = { blockMs: 120, intervalMs: 30, splitComputation: true };

export class Engine {
  private readonly inner: Inner = new Processor({ numberOfOutputs: 1, outputChannelCount: [2] });

  constructor(private readonly sampleRate: number) {
    this.inner.config = { ...BLOCK };
  }

  /** False while WebAssembly is being compiled. */
  get ready(): boolean {
    return this.inner.wasmReady && this.inner.channels > 0;
  }

  /** Samples of input that it must have beyond what comes out. */
  get lead(): number {
    return this.inner.wasmModule._inputLatency();
  }

  /** Samples that come out before the first that counts. */
  get tail(): number {
    return this.inner.wasmModule._outputLatency();
  }

  /** The most samples that it takes or gives at once. */
  get most(): number {
    return this.inner.bufferLength;
  }

  reset(): void {
    this.inner.wasmModule._reset();
  }

  setKey(semitones: number): void {
    this.inner.wasmModule._setTransposeSemitones(semitones, TONALITY / this.sampleRate);
  }

  /** What was before the first sample, without a sound: `[2][T]`, at a tempo of `rate`. */
  seek(from: readonly Float32Array[], rate: number): void {
    this.give(from);
    this.inner.wasmModule._seek(from[0].length, rate);
  }

  /** All of `from` becomes all of `into`, `[2][T]` each: the tempo is the quotient of their lengths. */
  process(from: readonly Float32Array[], into: readonly Float32Array[]): void {
    this.give(from);
    this.inner.wasmModule._process(from[0].length, into[0].length);
    into.forEach((plane, c) => plane.set(new Float32Array(this.memory, this.inner.buffersOut[c], plane.length)));
  }

  private give(from: readonly Float32Array[]): void {
    from.forEach((plane, c) => new Float32Array(this.memory, this.inner.buffersIn[c], plane.length).set(plane));
  }

  private get memory(): ArrayBuffer {
    const { exports, HEAP8 } = this.inner.wasmModule;
    return (exports ? exports.memory.buffer : HEAP8!.buffer) as ArrayBuffer;
  }
}
