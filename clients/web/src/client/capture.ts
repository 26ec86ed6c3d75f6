// Live sound of any kind as a source: whatever a MediaStream carries, sample for sample, in the context's own clock.

import url from "./capture-processor.ts?worker&url";
import { Failure } from "./errors";
import type { Block, Source } from "./source";

interface Captured {
  time: number;
  planes: Float32Array[];
}

export interface CaptureOptions {
  channels?: number; // 1 or 2; as many as the stream says that it has
  ended?: () => void; // the device has gone away, or somebody has stopped to share
  owned?: boolean; // closing it stops the stream
}

export class CaptureSource implements Source {
  readonly live = true;
  readonly length = Infinity;
  onblock = (): void => {};
  private queue: Block[] = [];
  private paused = true;
  private readonly input: AudioNode;

  private constructor(
    readonly stream: MediaStream,
    private readonly node: AudioWorkletNode,
    readonly channels: number,
    private readonly options: CaptureOptions,
  ) {
    node.port.onmessage = (event: MessageEvent<Captured>) => {
      if (this.paused) return;
      this.queue.push(event.data);
      this.onblock();
    };
    this.input = (node.context as AudioContext).createMediaStreamSource(stream);
    this.input.connect(node);
    for (const track of stream.getAudioTracks()) track.addEventListener("ended", this.gone);
  }

  /** Throws a Failure when the stream has no sound. */
  static async open(context: AudioContext, stream: MediaStream, options: CaptureOptions = {}): Promise<CaptureSource> {
    const [track] = stream.getAudioTracks();
    if (track === undefined) throw new Failure("What was handed over has no sound.", "Choose something with sound.", "no_audio");
    const channels = options.channels ?? channelsOf(track);
    await context.audioWorklet.addModule(url);
    const node = new AudioWorkletNode(context, "rivulet-capture", {
      numberOfOutputs: 0, channelCount: channels, channelCountMode: "explicit",
    });
    return new CaptureSource(stream, node, channels, options);
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
    this.node.port.postMessage(null); // the processor may go
    for (const track of this.stream.getAudioTracks()) track.removeEventListener("ended", this.gone);
    if (this.options.owned) stop(this.stream);
  }

  private readonly gone = (): void => this.options.ended?.();
}

/** 1 or 2. Where the browser does not say (WebKit), two: of a mono one they are alike, and of a stereo one nothing is lost. */
export const channelsOf = (track: MediaStreamTrack): number => Math.min(2, Math.max(1, track.getSettings().channelCount ?? 2));

export function stop(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}
