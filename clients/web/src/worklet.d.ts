// The globals of AudioWorkletGlobalScope, which TypeScript's DOM library leaves out. Only what is used.
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
  constructor(options?: { processorOptions?: unknown });
}
declare function registerProcessor(
  name: string,
  processor: new (options: { processorOptions: never }) => AudioWorkletProcessor,
): void;
declare const currentTime: number;
declare const sampleRate: number;
