// An API key, for servers that ask for one. It comes in the fragment of the address (`#key=...`), which no browser sends
// anywhere, is taken out of it at once, and is kept in memory only. A WebSocket gets a short-lived token in its place.

import { Failure, needsKey } from "./errors";

const TOKEN_SECONDS = 60; // for one opening: a session that is open needs it no more

export class Key {
  private value: string | null = null;

  /** Takes a key out of the address, if there is one. */
  take(place: Location, past: History): boolean {
    const fragment = new URLSearchParams(place.hash.slice(1));
    const found = fragment.get("key");
    if (!found) return false;
    this.value = found;
    fragment.delete("key");
    past.replaceState(past.state, "", place.pathname + place.search + (fragment.size > 0 ? `#${fragment}` : ""));
    return true;
  }

  get headers(): Record<string, string> {
    return this.value === null ? {} : { Authorization: `Bearer ${this.value}` };
  }

  /** A new token; null without a key. Throws a Failure. */
  async token(): Promise<string | null> {
    if (this.value === null) return null;
    const headers = { ...this.headers, "Content-Type": "application/json" };
    const body = JSON.stringify({ ttl_s: TOKEN_SECONDS });
    const answer = await fetch("/v1/tokens", { method: "POST", headers, body }).catch(() => null);
    if (answer === null) throw new Failure("The server cannot be reached.", "Check that it runs and try again.", "unreachable");
    if (answer.status === 401 || answer.status === 403) throw needsKey();
    if (!answer.ok) throw new Failure(`The server gave no token (HTTP ${answer.status}).`, "Wait a moment and try again.", "unreachable");
    return ((await answer.json()) as { token: string }).token;
  }
}
