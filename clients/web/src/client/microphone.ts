// The microphone, or a line input: untouched samples. Echo cancelling, noise suppression and gain control are made for
// calls: they eat tones, duck the second speaker and change what a separator hears, so all three are refused.

import url from "./capture-processor.ts?worker&url";
import { Failure } from "./errors";
import type { Block, Source } from "./source";

interface Captured {
  time: number;
  planes: Float32Array[];
}

export class MicrophoneSource implements Source {
  readonly live = true;
  readonly length = Infinity;
  onblock = (): void => {};
  private queue: Block[] = [];
  private paused = true;

  private constructor(
    private readonly stream: MediaStream,
    private readonly input: AudioNode,
    private readonly node: AudioWorkletNode,
    readonly channels: number,
  ) {
    node.port.onmessage = (event: MessageEvent<Captured>) => {
      if (this.paused) return;
      this.queue.push(event.data);
      this.onblock();
    };
    input.connect(node);
  }

  /** Throws a Failure that says what to do. `ended` is called when the device goes away. */
  static async open(context: AudioContext, channels: number, ended: () => void): Promise<MicrophoneSource> {
    const stream = await askFor(channels);
    await context.audioWorklet.addModule(url);
    const [track] = stream.getAudioTracks();
    track.addEventListener("ended", ended);
    const options = { numberOfOutputs: 0, channelCount: channels, channelCountMode: "explicit" } as const;
    const node = new AudioWorkletNode(context, "rivulet-capture", options);
    return new MicrophoneSource(stream, context.createMediaStreamSource(stream), node, channels);
  }

  get waiting(): number {
    return this.queue.reduce((sum, block) => sum + block.planes[0].length, 0);
  }

  take(): Block | null {
    return this.queue.shift() ?? null;
  }

  setPaused(paused: boolean): void {
    this.paused = paused;
    this.queue = [];
  }

  close(): void {
    this.setPaused(true);
    this.input.disconnect();
    this.node.port.onmessage = null;
    for (const track of this.stream.getTracks()) track.stop();
  }
}

async function askFor(channels: number): Promise<MediaStream> {
  // Outside https and localhost a browser has no `mediaDevices` at all.
  if (!("mediaDevices" in navigator)) {
    throw new Failure("This page may not use a microphone.", "Open it over https, or as localhost.");
  }
  try {
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    return await navigator.mediaDevices.getUserMedia({ audio: { ...raw, channelCount: { ideal: channels } } });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "NotAllowedError") {
      throw new Failure("The microphone was not allowed.", "Allow it in the browser's address bar and press Microphone again.");
    }
    if (name === "NotFoundError") throw new Failure("No microphone was found.", "Plug one in and press Microphone again.");
    throw new Failure(`The microphone could not be opened (${name || String(error)}).`, "Close other programs that use it and try again.");
  }
}
