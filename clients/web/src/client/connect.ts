// One way in, whatever carries the session.

import { below } from "./address";
import type { Start } from "./codec";
import { Failure, needsKey } from "./errors";
import type { Model } from "./models";
import { hasWebRTC } from "./peer-call";
import type { Token } from "./peer-signalling";
import { PeerStream } from "./peer-stream";
import { SocketStream } from "./socket-stream";
import type { ConnectOptions, Stream } from "./stream";

const RATE = 48_000;

type Asked = Omit<Start, "type" | "rate" | "channels" | "format">;

/** Opens a session. Resolves when the server is ready and sound goes up; rejects with a Failure, which says what to do. */
export async function connect(options: ConnectOptions): Promise<Stream> {
  options.signal?.throwIfAborted();
  const context = options.context ?? new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  void context.resume(); // which waits for a click, where the browser wants one
  const own = options.context === undefined;
  try {
    const stream = await open(context, options);
    const destination = options.destination === undefined ? context.destination : options.destination;
    if (destination) stream.output.connect(destination);
    return own ? closing(stream) : stream;
  } catch (error) {
    if (own) void context.close();
    throw error;
  }
}

async function open(context: AudioContext, options: ConnectOptions): Promise<Stream> {
  const asked = wanted(options);
  if (options.transport !== "webrtc") return SocketStream.open(context, options, asked, token(options));
  const { live, ...start } = asked;
  if (!hasWebRTC()) throw new Failure("This browser has no WebRTC.", "Use a WebSocket, or another browser.", "no_webrtc");
  if (live === false) throw new Failure("WebRTC carries live sound only.", "Use a WebSocket for files.", "live");
  return PeerStream.open(context, options, { type: "start", ...start }, token(options), await outputs(options));
}

/** A stream with a context of its own takes it away at the end, once it has faded out. */
function closing(stream: Stream): Stream {
  const close = stream.close.bind(stream);
  stream.close = () => {
    close();
    setTimeout(() => void stream.context.close().catch(() => {}), 400);
  };
  return stream;
}

/** Only what was given: a server that is older than an option refuses its name. */
function wanted({ model, mode, speakers, latency, stems, output, gains, mono, live }: ConnectOptions): Asked {
  const given = { mode, speakers, latency_ms: latency, stems, output, gains, mono, live };
  return { model, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

function token({ token: given }: ConnectOptions): Token {
  return typeof given === "function" ? given : () => Promise.resolve(given ?? null);
}

const MOST_PEOPLE = 4; // docs/protocol.md: the default of `speakers.max`

/** How many tracks a session will have, which WebRTC must know before the server says it. */
async function outputs(options: ConnectOptions): Promise<number> {
  const { mode, output, stems, speakers } = options;
  if (mode === "diarize") return 0;
  if (output === "mix") return 1;
  if (mode === "speakers") return speakers?.max ?? MOST_PEOPLE;
  return stems?.length ?? (await sources(options));
}

async function sources(options: ConnectOptions): Promise<number> {
  const given = await token(options)();
  const headers: HeadersInit = given === null ? {} : { Authorization: `Bearer ${given}` };
  const answer = await fetch(below(options.url, "v1/models"), { headers }).catch(() => null);
  if (answer === null) throw new Failure("The server cannot be reached.", "Check that it runs and try again.", "unreachable");
  if (answer.status === 401) throw needsKey();
  if (!answer.ok) throw new Failure(`The server did not list its models (HTTP ${answer.status}).`, "Try again.", "unreachable");
  const model = ((await answer.json()) as Model[]).find((one) => one.name === options.model);
  if (model === undefined) throw new Failure(`The server has no model ${options.model}.`, "Choose another one.", "unknown_model");
  return model.sources.length;
}
