// What `connect` takes and gives: one session, whatever carries it.

import type { Chunk, Gains, Media, Mode, Ready, SpeakerOptions, Stats } from "./codec";
import type { Failure } from "./errors";
import type { Song } from "./file";
import type { Network } from "./peer-stats";
import type { Report } from "./player-messages";
import type { Source } from "./source";
import type { Stem } from "./stem";
import type { Timeline } from "./turns";

export type TransportName = "websocket" | "webrtc";

/** A sound or video file, samples, live sound of any kind, or something of your own that gives blocks. */
export type AnySource = File | Song | AudioBuffer | MediaStream | Source;

export interface ConnectOptions {
  /** Of the server: `https://stems.example.com`, also with a path in front of `/v1`. */
  url: string | URL;
  /** A token from `POST /v1/tokens`. Tokens are short-lived: give a function, which is asked before every connection. */
  token?: string | (() => Promise<string | null>);
  model: string;
  mode?: Mode;
  speakers?: SpeakerOptions;
  /** The most latency that is wanted, in ms; without it the model's default. */
  latency?: number;
  /** By name; all of the model if none are given. `no_<stem>` is all but that one. */
  stems?: readonly string[];
  /** `mix`: one stem, mixed by the server by `gains`. */
  output?: "stems" | "mix";
  gains?: Gains;
  /** One channel a stem. */
  mono?: boolean;
  /** False: a file, as fast as the server has time for it; only over a WebSocket. */
  live?: boolean;
  transport?: TransportName;
  /** At 48 kHz, best of all. Without one, the stream has its own, which `close` closes. */
  context?: AudioContext;
  /** Where the sound goes: the context's loudspeakers, or nowhere (null) until `output` is connected. */
  destination?: AudioNode | null;
  /** The microphone, if none is given. A MediaStream remains yours: `close` does not stop it. */
  source?: AnySource;
  /** WebRTC: ms that the browser's jitter buffers aim at, the same for all stems (40). */
  jitterBuffer?: number;
  /**
   * What the server says for a person, from the first try on: that it is full, and when it is asked again. The event `notice` of a
   * Stream tells the same, but only of what is said once there is a Stream.
   */
  notice?: (text: string) => void;
  /** Gives up the attempt, or closes the stream. */
  signal?: AbortSignal;
}

/** ms; null where there is nothing to tell (yet). */
export interface LatencyFigures {
  /** What the server promises, the network left out. */
  declared: number | null;
  /** From the capture of a sample (a file's: its sending) to the arrival of its stems; the median of late. */
  arrival: number | null;
  worst: number | null;
  /** Live: from the capture of a sample to its sound, the output device's delay included. */
  ear: number | null;
  /** Live: from the capture of a sample to knowing who spoke it. */
  turn: number | null;
}

export interface StreamStats {
  server: Stats | null; // about once a second
  player: Report | null; // over a WebSocket, 30 times a second
  media: Media | null; // over WebRTC, about once a second
  network: Network | null; // over WebRTC: the browser's own figures
}

export interface StreamEvents {
  progress: Stream; // position, levels and latency are new; 30 times a second
  stats: StreamStats; // the server has told something
  speakers: Timeline; // somebody began to speak, went on or ended
  stems: Chunk; // over a WebSocket: samples that came, before they are played (copy what is to be kept)
  notice: string; // of the server, for a person; ConnectOptions.notice hears it from the beginning
  draining: number; // ms: the server is going away, and takes the session with it after so long
  away: boolean; // the connection is lost and looked for, or made again
  done: number; // samples: all stems have come
  ended: number; // samples: the last of them was played
  failed: Failure; // nothing more will come; what has come is still played
}

export interface Stream {
  readonly transport: TransportName;
  readonly ready: Ready;
  readonly context: AudioContext;
  /** The sum of the stems as their knobs stand, in stereo. */
  readonly output: AudioNode;
  readonly stems: readonly Stem[];
  readonly timeline: Timeline;
  readonly paused: boolean;
  readonly away: boolean;
  /** Samples of the session: what is played next, what went up, what is here. */
  readonly position: number;
  readonly sent: number;
  readonly told: number;
  readonly latency: LatencyFigures;
  readonly stats: StreamStats;
  /** Returns what takes the listener away again. */
  on<Name extends keyof StreamEvents>(name: Name, listener: (value: StreamEvents[Name]) => void): () => void;
  /** Also wakes the context, for which browsers want a click. */
  play(): void;
  /** Nothing is played, and of what is live nothing is heard by the server. */
  pause(): void;
  /** Resolves with its sample when all audio sent before it has come back. */
  mark(): Promise<number>;
  /** Of `output: "mix"`: turns the server's knobs. */
  setGains(gains: Gains): void;
  /** No more audio: the rest of the stems comes and is played. */
  end(): void;
  /** Leave now. */
  close(): void;
}
