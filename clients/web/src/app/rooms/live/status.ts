// What is going on, in one sentence, and in the figures that are always in sight.

import type { TransportName } from "../../../client/stream";
import type { Vital } from "../../shell";
import type { Live, Wish } from "./live";

const ASKING: Record<Wish["kind"], string> = {
  line: "Waiting for the input: allow it if the browser asks.",
  microphone: "Waiting for the microphone: allow it if the browser asks.",
  tab: "Choose a tab in the browser's window, and leave its sound on.",
};

const AWAY: Record<TransportName, string> = {
  websocket: "The connection was lost. It is looked for, and what is played meanwhile is sent then.",
  webrtc: "The connection was lost. It is looked for; what is played meanwhile is not heard by the server.",
};

export function status({ phase, stream, listening }: Live, wish: Wish | null): string {
  if (wish === null) return "Loading…";
  switch (phase) {
    case "idle":
      return "Choose an input and press Start.";
    case "asking":
      return ASKING[wish.kind];
    case "connecting":
      return "Connecting…";
    case "paused":
      return "Paused: the input is not heard by the server.";
    case "playing":
      if (stream?.away) return AWAY[stream.transport];
      if (!stream || stream.position === 0) return "Waiting for the first stems…";
      return listening ? "Live." : "Live, and silent here: put on headphones, then press Listen. Loudspeakers would feed back.";
  }
}

export function vital({ stream }: Live): Partial<Vital> {
  const { declared = null, arrival = null, ear = null } = stream?.latency ?? {};
  const trip = stream?.stats.network?.roundTrip ?? null;
  const slow = trip !== null && trip > 200 ? `The network is slow: ${Math.round(trip)} ms there and back` : "";
  const network = stream?.away ? "The connection was lost: reconnecting…" : slow;
  return { declared, measured: arrival, ear, network };
}
