// Play, pause and stop, for what is heard live and for what was kept; where we are; and what is going on.

import { make, write } from "../../ui/elements";
import { RATE } from "../../shell";
import { clock } from "../../ui/text";
import type { Meeting } from "./meeting";
import { status } from "./words";

export class Transport {
  readonly element = make("div");
  private readonly play = make("button", { type: "button", class: "primary" }, "Play");
  private readonly stop = make("button", { type: "button" }, "Stop");
  private readonly listen = make("button", { type: "button" }, "Listen");
  private readonly time = make("span", { class: "time" });
  private readonly seek = make("input", { type: "range", min: "0", max: "1", value: "0", step: "any", "aria-label": "Position in the meeting" });
  private readonly status = make("p", { class: "quiet", role: "status", id: "status" });
  private seeking = false;

  constructor(private readonly meeting: Meeting) {
    const row = make("div", { class: "transport" });
    row.append(this.play, this.stop, this.listen, this.time);
    this.element.append(row, this.seek, this.status);
    this.play.addEventListener("click", () => this.press());
    this.stop.addEventListener("click", () => meeting.stop());
    this.listen.addEventListener("click", () => meeting.setListening(!meeting.listening));
    this.seek.addEventListener("input", () => (this.seeking = true));
    this.seek.addEventListener("change", () => {
      this.seeking = false;
      void meeting.playing.seek(this.seek.valueAsNumber * RATE);
    });
  }

  private get hearing(): boolean {
    return this.meeting.live && (this.meeting.phase === "hearing" || this.meeting.phase === "paused");
  }

  private press(): void {
    const { meeting } = this;
    if (this.hearing) meeting.setPaused(meeting.phase === "hearing");
    else if (meeting.playing.state === "playing") meeting.playing.pause();
    else void meeting.playing.play();
  }

  show(): void {
    const { meeting, hearing } = this;
    const going = hearing ? meeting.phase === "hearing" : meeting.playing.state === "playing";
    write(this.play, going ? "Pause" : hearing ? "Go on" : "Play");
    this.play.disabled = !hearing && !meeting.playable;
    this.stop.disabled = !meeting.open && meeting.playing.state === "stopped";
    this.listen.hidden = !(meeting.live && meeting.open && meeting.stems.length > 0);
    this.listen.ariaPressed = String(meeting.listening);
    this.seek.hidden = !meeting.playable;
    this.move();
  }

  move(): void {
    const { meeting } = this;
    const all = (meeting.length ?? meeting.tracks.end) / RATE;
    const at = meeting.position / RATE;
    write(this.time, meeting.live && meeting.open ? clock(at) : `${clock(at)} / ${clock(all)}`);
    this.seek.max = String(all);
    if (!this.seeking) this.seek.valueAsNumber = at;
    this.seek.setAttribute("aria-valuetext", clock(this.seek.valueAsNumber));
    write(this.status, status(meeting));
  }
}
