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

export class Signalling {
  private readonly address: URL;
  private place: URL | null = null;

  constructor(server: string | URL, private readonly token: Token, private readonly signal?: AbortSignal) {
    this.address = below(server, "v1/rtc");
  }

  /** Throws a Failure. */
  async terms(): Promise<Terms> {
    return (await this.ask(this.address, "GET")).json() as Promise<Terms>;
  }

  /** Throws a Failure: what the server said, and what to do. */
  async offer(sdp: string, start: PeerStart): Promise<Answer> {
    const answer = await this.ask(this.address, "POST", JSON.stringify({ sdp, type: "offer", start }));
    const said = (await answer.json()) as Answer;
    this.place = below(this.address, encodeURIComponent(said.session)); // `Location` may be hidden from a page of another origin
    return said;
  }

  /** Hangs up; also while a page goes away. Says nothing of what goes wrong: the server misses us soon enough. */
  async hangUp(): Promise<void> {
    const { place } = this;
    this.place = null;
    if (place === null) return;
    const headers = await this.headers().catch(() => ({}));
    await fetch(place, { method: "DELETE", headers, keepalive: true }).catch(() => null);
  }

  private async headers(): Promise<Record<string, string>> {
    const token = await this.token();
    return token === null ? {} : { Authorization: `Bearer ${token}` };
  }

  private async ask(url: URL, method: string, body: string | null = null): Promise<Response> {
    const headers = { ...(await this.headers()), ...(body === null ? {} : { "Content-Type": "application/json" }) };
    const answer = await fetch(url, { method, headers, body, signal: this.signal ?? null }).catch(() => null);
    if (answer === null) throw new Failure("The server cannot be reached.", "Check that it runs and try again.", "unreachable");
    if (answer.ok) return answer;
    throw await refusal(answer);
  }
}

async function refusal(answer: Response): Promise<Failure> {
  const said = (await answer.json().catch(() => null)) as { error?: { code?: string; message?: string } } | null;
  if (said?.error?.message !== undefined) return fromServer(said.error.code ?? "", said.error.message);
  if (answer.status === 401 || answer.status === 403) return needsKey();
  if (answer.status === 404 || answer.status === 405) return new Failure("This server has no WebRTC.", "Use a WebSocket.", "no_webrtc");
  return new Failure(`The server refused the call (HTTP ${answer.status}).`, "Try again, or use a WebSocket.", "refused");
}
