// Whatever `connect` is given, as a source of blocks (WebSocket) or as a track (WebRTC).

import { CaptureSource, channelsOf, stop } from "./capture";
import { Failure } from "./errors";
import { FileSource, type Song, decodeSong, songOf } from "./file";
import { microphone } from "./microphone";
import type { Source } from "./source";
import type { AnySource } from "./stream";

// Not every browser has it.
const isStream = (given: unknown): given is MediaStream => typeof MediaStream !== "undefined" && given instanceof MediaStream;
const isSource = (given: AnySource): given is Source => "take" in given;

/** Throws a Failure that says what to do. `ended`: what is captured has gone away. */
export async function asSource(context: AudioContext, given: AnySource | undefined, ended: () => void): Promise<Source> {
  if (given === undefined) return CaptureSource.open(context, await microphone(), { ended, owned: true });
  if (isStream(given)) return CaptureSource.open(context, given, { ended });
  return isSource(given) ? given : new FileSource(await asSong(given, context.sampleRate));
}

async function asSong(given: File | Song | AudioBuffer, rate: number): Promise<Song> {
  const song = given instanceof File ? await decodeSong(given, rate) : given instanceof AudioBuffer ? songOf(given) : given;
  if (song.rate === rate) return song;
  throw new Failure(`Got a song at ${song.rate} Hz, the context has ${rate} Hz.`, "Decode it at the context's rate.", "rate");
}

export interface Sending {
  track: MediaStreamTrack; // ours: it can be silenced and stopped without a change to what was given
  channels: number;
  begin(): void; // the way is open: a file starts to play
  close(): void;
}

/** A file plays into its track in real time. */
export async function asTrack(context: AudioContext, given: AnySource | undefined, ended: () => void): Promise<Sending> {
  if (given !== undefined && !isStream(given) && isSource(given)) {
    throw new Failure("A source of blocks cannot go over WebRTC.", "Hand over a MediaStream, or use a WebSocket.", "source");
  }
  if (given === undefined || isStream(given)) return sending(given ?? (await microphone()), given === undefined, ended);
  return playing(context, await asSong(given, context.sampleRate), ended);
}

function sending(stream: MediaStream, owned: boolean, ended: () => void): Sending {
  const [original] = stream.getAudioTracks();
  if (original === undefined) throw new Failure("What was handed over has no sound.", "Choose something with sound.", "no_audio");
  const track = original.clone();
  track.contentHint = "music"; // none of the browser's processing of speech
  original.addEventListener("ended", ended);
  const close = (): void => {
    original.removeEventListener("ended", ended);
    track.stop();
    if (owned) stop(stream);
  };
  return { track, channels: channelsOf(original), begin() {}, close };
}

function playing(context: AudioContext, { planes, rate }: Song, ended: () => void): Sending {
  const buffer = new AudioBuffer({ length: planes[0].length, numberOfChannels: planes.length, sampleRate: rate });
  planes.forEach((plane, c) => buffer.copyToChannel(plane as Float32Array<ArrayBuffer>, c));
  const node = new AudioBufferSourceNode(context, { buffer });
  const into = new MediaStreamAudioDestinationNode(context, { channelCount: planes.length });
  node.connect(into);
  node.onended = ended;
  const [track] = into.stream.getAudioTracks();
  track.contentHint = "music";
  return {
    track,
    channels: planes.length,
    begin: () => node.start(),
    close() {
      node.onended = null;
      node.disconnect();
      track.stop();
    },
  };
}
