// A line that is played while it is heard: a microphone or a tab, over a WebSocket or WebRTC.

import { CaptureSource, stop } from "../../../client/capture";
import type { Ready, Start } from "../../../client/codec";
import { connect } from "../../../client/connect";
import type { Stream, TransportName } from "../../../client/stream";
import type { Shell } from "../../shell";
import type { Figures, Line, LineEvents } from "./line";

export type Wanted = Pick<Start, "model" | "mode" | "speakers">;

export class Live implements Line {
  /** Resolves when the server is ready; rejects with a Failure. The sound is the line's: it stops with it. */
  static async open(
    shell: Shell, context: AudioContext, sound: MediaStream, transport: TransportName, wanted: Wanted, on: LineEvents,
  ): Promise<Live> {
    const ended = (): void => live?.end();
    let live: Live | null = null;
    for (const track of sound.getAudioTracks()) track.addEventListener("ended", ended);
    const source = transport === "webrtc" ? sound : await CaptureSource.open(context, sound, { channels: 1, ended, owned: true });
    const token = (): Promise<string | null> => shell.key.token();
    const notice = (text: string): void => on.notice(text);
    const options = { url: shell.base, token, context, source, transport, destination: shell.output, mono: true, notice, ...given(wanted) };
    const stream = await connect(options).catch((error: unknown) => {
      stop(sound);
      throw error;
    });
    return (live = new Live(stream, sound, on));
  }

  private constructor(private readonly stream: Stream, private readonly sound: MediaStream, on: LineEvents) {
    stream.on("stems", (chunk) => on.stems(chunk));
    stream.on("speakers", (timeline) => on.speakers(timeline));
    stream.on("progress", () => on.moved());
    stream.on("draining", (ms) => on.notice(`The server is going away: this session ends in at most ${Math.ceil(ms / 1000)} s.`));
    stream.on("away", (away) => on.away(away));
    stream.on("done", () => on.done());
    stream.on("failed", (failure) => on.failed(failure));
    on.ready(stream.ready);
  }

  get ready(): Ready {
    return this.stream.ready;
  }

  get told(): number {
    return this.stream.told;
  }

  get sent(): number {
    return this.stream.sent;
  }

  get position(): number {
    return this.stream.position;
  }

  get figures(): Figures {
    return this.stream.latency;
  }

  get peaks(): readonly number[] {
    return this.stream.stems.map((stem) => stem.level);
  }

  setGains(gains: readonly number[]): void {
    this.stream.stems.forEach((stem, i) => (stem.gain = gains[i] ?? 0));
  }

  setPaused(paused: boolean): void {
    if (paused) this.stream.pause();
    else this.stream.play();
  }

  mark(): Promise<number> {
    return this.stream.mark();
  }

  end(): void {
    this.stream.end();
    stop(this.sound);
  }

  close(): void {
    this.stream.close();
    stop(this.sound);
  }
}

/** Without what was not asked for. */
const given = ({ model, mode, speakers }: Wanted) => ({ model, ...(mode && { mode }), ...(speakers && { speakers }) });
