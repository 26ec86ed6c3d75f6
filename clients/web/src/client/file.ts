// A song, decoded by the browser to the session's rate: whatever it plays, sound or video, is taken.

import type { Block, Source } from "./source";
import { Failure } from "./errors";

const BLOCK = 4096; // samples a message: 85 ms of 48 kHz, 16 KiB of stereo s16le

export interface Song {
  name: string;
  rate: number;
  planes: Float32Array[]; // one or two
}

/** Throws a Failure that says what to do about a file that does not decode. */
export async function decodeSong(file: File, rate: number): Promise<Song> {
  // Decoding in an offline context resamples to its rate and, unlike a live one, needs no click first.
  const context = new OfflineAudioContext(2, 1, rate);
  let audio: AudioBuffer;
  try {
    audio = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Failure(
      `This browser cannot decode “${file.name}”.`,
      "Try MP3, AAC (m4a, mp4), FLAC, Ogg or WAV, or another browser. A file with copy protection cannot be used.",
    );
  }
  if (audio.length === 0) throw new Failure(`“${file.name}” holds no sound.`, "Choose another file.");
  if (audio.numberOfChannels > 2) audio = await stereo(audio);
  return songOf(audio, file.name);
}

/** `audio` has one or two channels. */
export const songOf = (audio: AudioBuffer, name = ""): Song => ({
  name, rate: audio.sampleRate, planes: Array.from({ length: audio.numberOfChannels }, (_, c) => audio.getChannelData(c)),
});

/** Surround to two channels by Web Audio's rules for loudspeakers. */
async function stereo(audio: AudioBuffer): Promise<AudioBuffer> {
  const context = new OfflineAudioContext(2, audio.length, audio.sampleRate);
  const node = new AudioBufferSourceNode(context, { buffer: audio });
  node.connect(context.destination);
  node.start();
  return context.startRendering();
}

export class FileSource implements Source {
  readonly live = false;
  readonly waiting = 0;
  readonly channels: number;
  readonly length: number;
  onblock = (): void => {};
  private at: number;

  constructor(private readonly song: Song, from = 0) {
    this.channels = song.planes.length;
    this.at = from;
    this.length = song.planes[0].length - from;
  }

  take(): Block | null {
    const planes = this.song.planes.map((plane) => plane.subarray(this.at, this.at + BLOCK));
    this.at += planes[0].length;
    return planes[0].length > 0 ? { planes, time: null } : null;
  }

  setPaused(): void {}

  close(): void {}
}
