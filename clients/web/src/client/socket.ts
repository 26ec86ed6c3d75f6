// The part of WebSocket that is used, and the way to a new one.

import { PROTOCOL } from "./codec";

export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  send(data: string | ArrayBuffer): void;
  close(code?: number): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
}

/** A socket that is not open yet. Rejects with a Failure when nothing can be dialled. */
export type Connect = () => Promise<Socket>;

/** `token` is asked before every connection, because tokens are short-lived; null: this server asks for none. */
export function connector(url: string, token: () => Promise<string | null>): Connect {
  return async () => {
    const given = await token();
    // Browsers let a page set no header of a WebSocket: the token goes as a second sub-protocol, which no log of URLs keeps.
    return new WebSocket(url, given === null ? PROTOCOL : [PROTOCOL, `token.${given}`]) as unknown as Socket;
  };
}
