// Every failure that a person can meet, as two sentences: what happened, and what to do.

export class Failure extends Error {
  constructor(message: string, readonly advice: string, readonly code = "") {
    super(message);
  }
}

const ADVICE: Record<string, string> = {
  bad_message: "The page and the server do not speak the same protocol: reload the page.",
  unauthorized: "This server needs a key: add #key=… to the address of this page.",
  forbidden: "Open the page at the server's own address, or choose a model that your key is for.",
  unknown_model: "Choose another model: the server no longer has this one.",
  replaced: "The session goes on in another window.",
  resume: "Begin again from here: it is a new session.",
  too_many: "Close other pages of this server, or wait a minute and try again.",
  draining: "Wait a moment and try again.",
  timeout: "Try again: the server gave up waiting, or the connection is too slow for it.",
  order: "This is a fault of the page: reload it.",
  too_large: "This is a fault of the page: reload it.",
  bad_audio: "This is a fault of the page: reload it.",
  latency: "Choose a model that answers faster, or no latency limit.",
  model_unavailable: "The server lacks this model's weights: choose another model.",
  capacity: "Wait a minute and try again, or choose a model that needs less.",
  internal: "The server failed: try again. Its log says more.",
};

const CODE_OF_CLOSE: Record<number, string> = {
  1011: "internal", 1012: "draining", 1013: "capacity", 4400: "bad_message", 4401: "unauthorized", 4403: "forbidden",
  4404: "unknown_model", 4408: "timeout", 4409: "order", 4410: "replaced", 4413: "too_large", 4422: "bad_audio",
  4425: "latency", 4426: "resume", 4429: "too_many", 4503: "model_unavailable",
};

/** From an `error` message of the server. */
export const fromServer = (code: string, message: string): Failure =>
  new Failure(`The server said: ${message.replace(/\.?$/, ".")}`, ADVICE[code] ?? "Try again.", code);

/** From a close that no `error` message explained. `opened`: whether the session had begun. */
export function fromClose(close: number, reason: string, opened: boolean): Failure {
  const code = CODE_OF_CLOSE[close];
  if (code === "draining") return new Failure("The server is restarting.", ADVICE[code], code);
  if (code) return new Failure(`The server ended the session (${reason || code}).`, ADVICE[code], code);
  if (!opened) return new Failure("The server cannot be reached.", "Check that it runs and try again.", "unreachable");
  return new Failure(`The connection was lost (${close}${reason && `, ${reason}`}).`, "Check the network and try again.", "lost");
}

export const needsKey = (): Failure => new Failure("The server did not let this page in.", ADVICE.unauthorized, "unauthorized");

export const asFailure = (error: unknown): Failure =>
  error instanceof Failure
    ? error
    : new Failure(error instanceof Error ? error.message : String(error), "This is a fault of the page: reload it.", "page");
