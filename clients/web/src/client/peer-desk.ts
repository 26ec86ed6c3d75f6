// A stem that comes as a track of WebRTC: into Web Audio, through its own gains to left and right, and past its meter.

import type { Track } from "./codec";
import { Failure } from "./errors";
import type { Sides } from "./pan";
import { MOST } from "./peer-align";
import { Desk, type Stem } from "./stem";

const SLIDE = 0.02; // of the speed: a third of a semitone
const SETTLE = 0.0025; // s: four of it, 10 ms, are 98 % of the way

export class Strip {
  readonly stream: MediaStream;
  private readonly pump: HTMLAudioElement;
  private readonly nodes: AudioNode[];
  private readonly sides: readonly [GainNode, GainNode];
  private readonly analyser: AnalyserNode;
  private readonly delay: DelayNode;
  private readonly samples: Float32Array<ArrayBuffer>;

  constructor(context: AudioContext, track: MediaStreamTrack, output: AudioNode) {
    this.stream = new MediaStream([track]);
    // Chromium pulls a remote track only for an element; a muted one will do.
    this.pump = new Audio();
    this.pump.muted = true;
    this.pump.srcObject = this.stream;
    void this.pump.play().catch(() => {}); // stopped before it began
    const source = context.createMediaStreamSource(this.stream);
    const stereo = new GainNode(context, { channelCount: 2, channelCountMode: "explicit" }); // mono: both sides the same
    const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
    const merger = new ChannelMergerNode(context, { numberOfInputs: 2 });
    this.analyser = new AnalyserNode(context, { fftSize: 2048 });
    this.samples = new Float32Array(this.analyser.fftSize);
    this.sides = [new GainNode(context, { gain: 0 }), new GainNode(context, { gain: 0 })]; // until its knobs are known
    this.delay = new DelayNode(context, { maxDelayTime: MOST / context.sampleRate });
    source.connect(this.delay).connect(stereo).connect(splitter);
    stereo.connect(this.analyser);
    this.sides.forEach((gain, side) => {
      splitter.connect(gain, side);
      gain.connect(merger, 0, side);
    });
    merger.connect(output);
    this.nodes = [source, this.delay, stereo, splitter, merger, ...this.sides];
  }

  setGains(gains: Sides): void {
    this.sides.forEach((node, side) => node.gain.setTargetAtTime(gains[side], node.context.currentTime, SETTLE));
  }

  /** Seconds from now on, in a slide that is not heard as a step. */
  hold(seconds: number): void {
    const { delayTime, context } = this.delay;
    const now = context.currentTime;
    const from = delayTime.value;
    delayTime.cancelScheduledValues(now).setValueAtTime(from, now);
    delayTime.linearRampToValueAtTime(seconds, now + Math.abs(seconds - from) / SLIDE);
  }

  /** The peak of the last 43 ms. */
  get level(): number {
    this.analyser.getFloatTimeDomainData(this.samples);
    return this.samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
  }

  close(): void {
    this.pump.srcObject = null;
    for (const node of this.nodes) node.disconnect();
  }
}

/** All stems of a connection. Tracks and `ready`, which says whose they are, come in any order. */
export class PeerDesk {
  private desk = new Desk([], 2, () => {});
  private tracks: readonly Track[] = [];
  private readonly strips = new Map<string, Strip>(); // by mid

  constructor(private readonly context: AudioContext, private readonly output: AudioNode) {}

  get stems(): readonly Stem[] {
    return this.desk.stems;
  }

  welcome(mid: string, track: MediaStreamTrack): void {
    this.strips.get(mid)?.close();
    this.strips.set(mid, new Strip(this.context, track, this.output));
    this.assign();
  }

  /** `channels`: of each stem. Tracks come as stereo all the same. Of the next call: the stems are those that there are, knobs and all. */
  name(names: readonly string[], channels: number, tracks: readonly Track[]): void {
    const known = this.stems.map((stem) => stem.name);
    if (known.length > 0 && known.join() !== names.join()) {
      throw new Failure(`The server now gives ${names.join(", ")} in place of ${known.join(", ")}.`, "Begin again.", "lost");
    }
    this.tracks = tracks;
    if (known.length === 0) this.desk = new Desk(names, channels, () => this.turn());
    this.assign();
  }

  hold(mid: string, seconds: number): void {
    this.strips.get(mid)?.hold(seconds);
  }

  listen(): void {
    for (const stem of this.stems) stem.level = this.stripOf(stem.name)?.level ?? 0;
  }

  /** The tracks are over; others may follow. */
  close(): void {
    for (const strip of this.strips.values()) strip.close();
    this.strips.clear();
    this.tracks = [];
    for (const stem of this.stems) [stem.stream, stem.level] = [null, 0];
  }

  private assign(): void {
    for (const stem of this.stems) stem.stream = this.stripOf(stem.name)?.stream ?? null;
    this.turn();
  }

  private stripOf(name: string): Strip | undefined {
    const track = this.tracks.find((one) => one.name === name);
    return track && this.strips.get(track.mid);
  }

  private turn(): void {
    const { gains } = this.desk;
    this.stems.forEach(({ name }, i) => this.stripOf(name)?.setGains(gains[i]));
  }
}
