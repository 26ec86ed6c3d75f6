// One WebRTC connection: the offer with all its lines up front, the data channel, and how it ends.

import { Failure } from "./errors";
import type { Sending } from "./inputs";
import { musical } from "./peer-sdp";
import { type Answer, type PeerStart, type Signalling, type Terms } from "./peer-signalling";

const GATHERING = 2000; // ms: a dead STUN or TURN server must not hold up what can do without
const CONNECTING = 15_000; // ms
const NO_ANSWER = 700; // and above: an ICE server that was not reached, rather than one that refused
const UP = 192_000; // bit/s of stereo music, both ways; mono half of it

/** WebKitGTK, for one, is built without. */
export const hasWebRTC = (): boolean => typeof RTCPeerConnection !== "undefined";

export interface CallEvents {
  said(text: string): void; // over the data channel
  up(): void; // the way is open
  falters(yes: boolean): void; // nothing comes over it any more, or does again
  over(failure: Failure): void; // once, unless it was closed here
}

export class Call {
  readonly pc: RTCPeerConnection;
  readonly channel: RTCDataChannel;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private over = false;
  private connected = false;
  private refused = ""; // what a TURN server said instead of giving a relay

  /** `sending` is not ours to end: the next call sends the same. `outputs`: how many tracks may come; the first one's m-line carries what goes up too. */
  constructor(terms: Terms, private readonly sending: Sending, outputs: number, private readonly on: CallEvents) {
    this.pc = new RTCPeerConnection({ iceServers: terms.ice_servers, bundlePolicy: "max-bundle" });
    this.pc.addTransceiver(sending.track, { direction: "sendrecv" });
    for (let i = 1; i < outputs; i += 1) this.pc.addTransceiver("audio", { direction: "recvonly" });
    this.channel = this.pc.createDataChannel("rivulet", { ordered: true });
    this.channel.onmessage = (event) => on.said(String(event.data));
    this.channel.onclose = () => this.end(lost());
    this.pc.onconnectionstatechange = () => this.changed();
    this.pc.onicecandidateerror = ({ errorCode, errorText, url }) => {
      if (errorCode < NO_ANSWER) this.refused = `${url} says ${errorCode} ${errorText}`;
    };
  }

  /** Offers, and takes the answer. Throws a Failure. */
  async dial(signalling: Signalling, start: PeerStart, signal: AbortSignal): Promise<Answer> {
    const { pc, sending } = this;
    const offer = await pc.createOffer();
    const sdp = musical(offer.sdp ?? "", { channels: sending.channels, bitrate: UP });
    await pc.setLocalDescription({ type: "offer", sdp });
    await gathered(pc);
    const answer = await signalling.offer(pc.localDescription?.sdp ?? sdp, start, signal);
    if (this.over) throw new Failure("The call was ended.", "Connect again.", "closed");
    await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    await this.raise();
    if (!this.connected) this.timer = setTimeout(() => this.end(unreachable(this.refused)), CONNECTING);
    return answer;
  }

  /** False: it cannot be said over this call. */
  say(message: string): boolean {
    const open = this.channel.readyState === "open";
    if (open) this.channel.send(message);
    return open;
  }

  close(): void {
    this.over = true;
    clearTimeout(this.timer);
    this.channel.onmessage = this.channel.onclose = this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  /** A browser sends speech at 32 kbit/s unless it is told. */
  private async raise(): Promise<void> {
    const [sender] = this.pc.getSenders();
    const parameters = sender.getParameters();
    for (const one of parameters.encodings) one.maxBitrate = (UP * this.sending.channels) / 2;
    await sender.setParameters(parameters).catch(() => {}); // its own bitrate, then
  }

  private changed(): void {
    const { connectionState } = this.pc;
    if (connectionState === "connected") {
      clearTimeout(this.timer);
      if (this.connected) this.on.falters(false);
      else this.on.up();
      this.connected = true;
    } else if (connectionState === "disconnected") this.on.falters(true);
    else if (connectionState === "failed") this.end(this.connected ? lost() : unreachable(this.refused));
    else if (connectionState === "closed") this.end(lost());
  }

  private end(failure: Failure): void {
    if (this.over) return;
    this.close();
    this.on.over(failure);
  }
}

function gathered(pc: RTCPeerConnection): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      if (pc.iceGatheringState === "complete") resolve();
    };
    pc.addEventListener("icegatheringstatechange", done);
    setTimeout(resolve, GATHERING);
    done();
  });
}

const lost = (): Failure => new Failure("The connection was lost.", "Check the network and try again.", "lost");

const unreachable = (refused: string): Failure =>
  new Failure(
    "No way was found for the sound between this browser and the server.",
    refused === "" ? "UDP may be blocked here: use a WebSocket, or a server with TURN." : `Its relay gave none: ${refused}. Use a WebSocket.`,
    "ice",
  );
