// Records the mixed output, for tests and for the curious: what the faders really did, not what the page believes.

import url from "./tap-processor.ts?worker&url";

export interface Recording {
  rate: number;
  left: Float32Array;
  right: Float32Array;
}

const join = (parts: Float32Array[]): Float32Array => {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

export class Tap {
  private readonly parts: [Float32Array[], Float32Array[]] = [[], []];
  private finished: () => void = () => {};

  private constructor(private readonly node: AudioWorkletNode, private readonly source: AudioNode) {
    node.port.onmessage = (event: MessageEvent<[Float32Array, Float32Array] | null>) => {
      if (event.data === null) this.finished();
      else event.data.forEach((part, side) => this.parts[side].push(part));
    };
    source.connect(node);
  }

  static async open(source: AudioNode): Promise<Tap> {
    const context = source.context as AudioContext;
    await context.audioWorklet.addModule(url);
    const options = { numberOfOutputs: 0, channelCount: 2, channelCountMode: "explicit" } as const;
    return new Tap(new AudioWorkletNode(context, "rivulet-tap", options), source);
  }

  async stop(): Promise<Recording> {
    const whole = new Promise<void>((resolve) => (this.finished = resolve));
    this.node.port.postMessage("stop");
    await whole;
    this.source.disconnect(this.node);
    return { rate: this.node.context.sampleRate, left: join(this.parts[0]), right: join(this.parts[1]) };
  }
}
