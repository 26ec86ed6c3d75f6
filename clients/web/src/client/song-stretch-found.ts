// Finds the engine inside the package `signalsmith-stretch`. The package registers an AudioWorklet node which, when it is given a
// live input, takes as many samples as it gives: it can change the key, not the tempo. Its engine can do both, in the same
// thread as our mixer. So while the package is being loaded it meets stand-ins for the two globals that it uses: a base class
// without a node, and a register that keeps what is registered. `song-stretch.ts`, which loads it, then puts the globals back.

/** The parts of the package's processor that we use (version 1.3.2). */
export interface Inner {
  config: { blockMs: number; intervalMs: number; splitComputation: boolean }; // read once WebAssembly is compiled
  wasmReady: boolean;
  channels: number; // 0 until it is configured
  buffersIn: number[]; // addresses of planes, each of bufferLength samples
  buffersOut: number[];
  bufferLength: number;
  wasmModule: {
    _reset(): void;
    _setTransposeSemitones(semitones: number, tonality: number): void;
    _inputLatency(): number;
    _outputLatency(): number;
    _seek(frames: number, rate: number): void;
    _process(into: number, out: number): void;
    exports?: { memory: WebAssembly.Memory };
    HEAP8?: Int8Array;
  };
}

type Made = new (options: { numberOfOutputs: number; outputChannelCount: number[] }) => Inner;

const scope = globalThis as unknown as Record<string, unknown>;
const before = { AudioWorkletProcessor: scope.AudioWorkletProcessor, registerProcessor: scope.registerProcessor };
let made: Made | null = null;

scope.AudioWorkletProcessor = class {
  port = { postMessage: (): void => {}, onmessage: null };
};
scope.registerProcessor = (_name: string, processor: Made): void => void (made = processor);

export function restore(): Made {
  Object.assign(scope, before);
  if (made === null) throw new Error("signalsmith-stretch registered no processor: expected version 1.3.2");
  return made;
}
