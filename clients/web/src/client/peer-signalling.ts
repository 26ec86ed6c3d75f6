// WebRTC's HTTP side: `GET /v1/rtc` for the ICE servers, `POST` of the offer, `DELETE` at the end.

import { below } from "./address";
import type { Start, Track } from "./codec";
import { Failure, fromServer, needsKey } from "./errors";

/** Asked before every request, because tokens are short-lived; null: this server asks for none. */
export type Token = () => Promise<string | null>;

export interface Terms {
  ice_servers: RTCIceServer[];
  most_tracks: number;
}

export interface Answer {
  sdp: string;
  type: "answer";
  session: string;
  tracks: readonly Track[];
}

export type PeerStart = Omit<Start, "rate" | "channels" | "format" | "live">;

/** A refusal that passes: the server says when, in ms. */
export class Later extends Failure {
  constructor({ message, advice, code }: Failure, readonly wait: number) {
    super(message, advice, code);
  }
}

const HANG_UP = 1000; // ms that a server may take to forget a session before another one is asked for

export class Signalling {
  private readonly address: URL;
  private readonly places = new Set<URL>(); // sessions of ours that the server may still hold

  constructor(server: string | URL, private readonly token: Token) {
    this.address = below(server, "v1/rtc");
  }

  /** Throws a Failure. */
  async terms(signal?: AbortSignal): Promise<Terms> {
    return (await this.ask(this.address, "GET", null, signal)).json() as Promise<Terms>;
  }

  /** Throws a Failure: what the server said, and what to do. A session that was lost gives its seat back first. */
  async offer(sdp: string, start: PeerStart, signal?: AbortSignal): Promise<Answer> {
    if (this.places.size > 0) await Promise.race([this.hangUp(), new Promise((resolve) => setTimeout(resolve, HANG_UP))]);
    const answer = await this.ask(this.address, "POST", JSON.stringify({ sdp, type: "offer", start }), signal);
    const said = (await answer.json()) as Answer;
    this.places.add(below(this.address, encodeURIComponent(said.session))); // `Location` may be hidden from a page of another origin
    return said;
  }

  /** Hangs up; also while a page goes away. Says nothing of what goes wrong: the server misses us soon enough. */
  async hangUp(): Promise<void> {
    const places = [...this.places];
    if (places.length === 0) return;
    const headers = await this.headers().catch(() => ({}));
    await Promise.all(places.map(async (place) => {
      const answer = await fetch(place, { method: "DELETE", headers, keepalive: true }).catch(() => null);
      if (answer !== null) this.places.delete(place); // else it is said before the next offer
    }));
  }

  private async headers(): Promise<Record<string, string>> {
    const token = await this.token();
    return token === null ? {} : { Authorization: `Bearer ${token}` };
  }

  private async ask(url: URL, method: string, body: string | null, signal: AbortSignal | null = null): Promise<Response> {
    const headers = { ...(await this.headers()), ...(body === null ? {} : { "Content-Type": "application/json" }) };
    const answer = await fetch(url, { method, headers, body, signal }).catch(() => null);
    if (answer === null) throw new Failure("The server cannot be reached.", "Check that it runs and try again.", "unreachable");
    if (answer.ok) return answer;
    const refused = await refusal(answer);
    const seconds = Number(answer.headers.get("Retry-After") ?? 0);
    throw seconds > 0 ? new Later(refused, 1000 * seconds) : refused;
  }
}

const GATEWAY = new Set([502, 503, 504]); // said by what stands before a server that is not there

async function refusal(answer: Response): Promise<Failure> {
  const said = (await answer.json().catch(() => null)) as { error?: { code?: string; message?: string } } | null;
  if (said?.error?.message !== undefined) return fromServer(said.error.code ?? "", said.error.message);
  if (answer.status === 401 || answer.status === 403) return needsKey();
  if (answer.status === 404 || answer.status === 405) return new Failure("This server has no WebRTC.", "Use a WebSocket.", "no_webrtc");
  if (GATEWAY.has(answer.status)) return new Failure(`The server cannot be reached (HTTP ${answer.status}).`, "Check that it runs and try again.", "unreachable");
  return new Failure(`The server refused the call (HTTP ${answer.status}).`, "Try again, or use a WebSocket.", "refused");
}
