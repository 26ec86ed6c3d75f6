// A microphone, a line input, or what another tab plays, untouched. Echo cancelling, noise suppression and gain control are made
// for calls: they eat tones, duck the second speaker and change what a separator hears, so all three are refused.

import { CaptureSource, stop } from "./capture";
import { Failure } from "./errors";

const RAW = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export interface Microphone {
  device?: string; // by its id; none: the browser's choice
  channels?: number; // 1, or 2 for a line input
}

/** Throws a Failure that says what to do. */
export async function microphone({ device = "", channels = 1 }: Microphone = {}): Promise<MediaStream> {
  const audio = { ...RAW, channelCount: { ideal: channels }, ...(device ? { deviceId: { exact: device } } : {}) };
  return media().getUserMedia({ audio }).catch((error: unknown) => {
    throw refused(error, device);
  });
}

/** The sound of a tab, or of the whole computer where the browser can: the person chooses. Throws a Failure. */
export async function tabAudio(): Promise<MediaStream> {
  const devices = media();
  if (typeof devices.getDisplayMedia !== "function") {
    const advice = "Use Chrome or Edge on a computer, or lead the sound back into a line input.";
    throw new Failure("This browser cannot hand over the sound of a tab.", advice, "unsupported");
  }
  // A picture must be asked for; of this one, as little as possible. `systemAudio` is not known to TypeScript yet.
  const wanted = { audio: { ...RAW, channelCount: { ideal: 2 } }, video: { frameRate: { max: 1 } }, systemAudio: "include" };
  const stream = await devices.getDisplayMedia(wanted).catch((error: unknown) => {
    throw unshared(error);
  });
  if (stream.getAudioTracks().length > 0) return stream;
  stop(stream);
  throw new Failure("The sound was not shared.", "Share a tab and leave “Also share tab audio” on; of a window there is no sound.", "no_audio");
}

export interface Device {
  id: string; // "" in a list that may not be told yet
  name: string;
}

/** Browsers tell the names only after a microphone was allowed once. */
export async function devices(): Promise<{ inputs: Device[]; outputs: Device[] }> {
  const all = "mediaDevices" in navigator ? await navigator.mediaDevices.enumerateDevices() : [];
  const of = (kind: MediaDeviceKind): Device[] =>
    all.filter((one) => one.kind === kind && one.deviceId).map((one) => ({ id: one.deviceId, name: one.label || "Unnamed" }));
  return { inputs: of("audioinput"), outputs: of("audiooutput") };
}

/** A microphone as a source of its own: closing the one stops the other. */
export const MicrophoneSource = {
  /** Throws a Failure that says what to do. `ended` is called when the device goes away. */
  async open(context: AudioContext, channels: number, ended: () => void, device = ""): Promise<CaptureSource> {
    return CaptureSource.open(context, await microphone({ channels, device }), { channels, ended, owned: true });
  },
};

// Outside https and localhost a browser has no `mediaDevices` at all.
function media(): MediaDevices {
  if ("mediaDevices" in navigator) return navigator.mediaDevices;
  throw new Failure("This page may not use a microphone.", "Open it over https, or as localhost.", "insecure");
}

const nameOf = (error: unknown): string => (error instanceof DOMException || error instanceof Error ? error.name : "");

function refused(error: unknown, device: string): Failure {
  const name = nameOf(error);
  if (name === "NotAllowedError") return new Failure("The microphone was not allowed.", "Allow it in the browser's address bar and try again.", "not_allowed");
  // WebKit calls it overconstrained where there is none at all.
  if (name === "NotFoundError" || (name === "OverconstrainedError" && device === "")) return new Failure("No microphone was found.", "Plug one in and try again.", "not_found");
  if (name === "OverconstrainedError") return new Failure("That input is not there any more.", "Choose another one.", "not_found");
  return new Failure(`The microphone could not be opened (${name || String(error)}).`, "Close other programs that use it and try again.", "busy");
}

function unshared(error: unknown): Failure {
  const name = nameOf(error);
  if (name === "NotAllowedError") return new Failure("Nothing was chosen to share.", "Try again, and choose a tab with its sound.", "not_allowed");
  const advice = "Use Chrome or Edge on a computer, or lead the sound back into a line input.";
  return new Failure(`The sound of a tab could not be had (${name || String(error)}).`, advice, "unsupported");
}
