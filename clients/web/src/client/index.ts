// `@rivulet/client`: separated sound from a Rivulet server, live, in a browser.

export { connect } from "./connect";
export type {
  AnySource, ConnectOptions, LatencyFigures, Stream, StreamEvents, StreamStats, TransportName,
} from "./stream";
export type { Stem } from "./stem";
export type { Chunk, Gains, Media, Mode, Ready, SpeakerOptions, Stats } from "./codec";
export type { Network } from "./peer-stats";
export type { Report } from "./player-messages";
export { type Told, Timeline, type Turn } from "./turns";
export { Failure } from "./errors";
export { type Device, type Microphone, devices, microphone, tabAudio } from "./microphone";
export { CaptureSource, type CaptureOptions } from "./capture";
export { FileSource, type Song, decodeSong, songOf } from "./file";
export type { Block, Source } from "./source";
export { type Model, fetchModels } from "./models";
