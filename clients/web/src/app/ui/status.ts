// What is going on, in one sentence.

import type { App } from "../app";

export function status(app: App): string {
  if (app.notice) return app.notice;
  const waiting = app.run?.report?.phase === "filling";
  switch (app.phase) {
    case "decoding":
      return "Reading the file…";
    case "asking":
      return "Waiting for the microphone: allow it if the browser asks.";
    case "connecting":
      return "Connecting…";
    case "playing":
      if (app.purpose === "file") {
        if (app.run?.report == null || waiting) return "Buffering…";
        return app.run.drained ? "Playing; all stems are here." : "Playing.";
      }
      if (!app.run?.report?.position) return "Waiting for the first stems…";
      return app.listening
        ? "Listening to the microphone."
        : "The microphone is live and silent here: put on headphones, then press Listen. Loudspeakers would feed back.";
    case "paused":
      return app.purpose === "file" ? "Paused." : "Paused: the microphone is not sent.";
    case "ended":
      return "The end. Press Play to hear it again.";
    case "failed":
      return "Stopped.";
    case "idle":
      if (app.models.length === 0) return "Loading…";
      return app.song ? "Ready. Press Play." : app.purpose === "microphone" ? "Stopped. Press Microphone to start again." : "Choose a file, or press Microphone.";
  }
}

/** What the page does while there is no connection. */
export const reconnecting = (app: App): string =>
  `The connection was lost: reconnecting… ${app.purpose === "file" ? "What has come already goes on playing." : "The microphone goes on being recorded."}`;
