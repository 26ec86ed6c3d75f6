// A lane for everybody who has spoken, the time under them, and the whole meeting over them.

import { make, pen, write } from "../../ui/elements";
import { RATE } from "../../shell";
import { clock } from "../../ui/text";
import type { Meeting } from "./meeting";
import { drawOverview } from "./overview";
import { type Person, person } from "./person";
import { type Span, drawRuler, span } from "./span";
import { now } from "./words";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const CALM = 500; // ms between pictures where somebody asked for less motion
const GLANCE = 150; // ms between pictures of the whole

export class Lanes {
  readonly element = make("div", { class: "conversation" });
  private readonly people = new Map<number, Person>();
  private readonly lanes = make("div", { class: "lanes" });
  private readonly ruler = make("canvas", { class: "ruler", "aria-hidden": "true" });
  private readonly whole = make("canvas", { class: "whole", "aria-hidden": "true", title: "The whole meeting: click to go there" });
  private readonly said = make("p", { class: "now", role: "status", "aria-live": "off" });
  private readonly back = make("button", { type: "button", class: "toggle", hidden: "" }, "Back to now");
  private look: number | null = null; // second that is looked at, live, in place of now
  private shown: Span = { from: 0, seconds: 1, now: 0 };
  private frame = 0;
  private drawn = 0;
  private glanced = 0;
  private colours = { paper: "", ink: "", line: "", quiet: "" };
  private readonly themed = (): void => this.paint();

  constructor(private readonly meeting: Meeting, private readonly save: (speaker: number) => void) {
    this.lanes.append(this.ruler);
    this.element.append(this.said, this.back, this.whole, this.lanes);
    this.whole.addEventListener("click", (event) => this.go(event.offsetX / Math.max(1, this.whole.clientWidth)));
    this.back.addEventListener("click", () => this.lookAt(null));
    dark.addEventListener("change", this.themed);
    this.paint();
  }

  leave(): void {
    cancelAnimationFrame(this.frame);
    dark.removeEventListener("change", this.themed);
  }

  /** Another meeting: nobody has spoken. */
  clear(): void {
    this.people.clear();
    this.lanes.replaceChildren(this.ruler);
    this.lookAt(null);
  }

  /** Anything but the playhead. */
  show(): void {
    for (const speaker of this.meeting.book.speakers) if (!this.people.has(speaker)) this.meet(speaker);
    this.lanes.hidden = this.whole.hidden = this.people.size === 0;
    for (const one of this.people.values()) one.show();
    this.move();
  }

  /** The playhead and the levels: drawn with the next picture of the screen, thirty times a second at most. */
  move(): void {
    this.frame ||= requestAnimationFrame((time) => {
      this.frame = 0;
      const least = still.matches ? CALM : 30;
      if (time - this.drawn < least) return void setTimeout(() => this.move(), least - (time - this.drawn));
      this.drawn = time;
      this.draw();
      if (time - this.glanced > GLANCE) {
        this.glanced = time;
        this.glance();
      }
    });
  }

  private meet(speaker: number): void {
    const one = person(this.meeting, speaker, () => this.save(speaker));
    this.people.set(speaker, one);
    const after = [...this.people.keys()].filter((other) => other > speaker).sort((a, b) => a - b)[0];
    this.lanes.insertBefore(one.element, after === undefined ? this.ruler : this.people.get(after)!.element);
    this.paint();
  }

  private paint(): void {
    const style = getComputedStyle(document.documentElement);
    const [paper, ink, line, quiet] = ["--card", "--ink", "--line", "--quiet"].map((name) => style.getPropertyValue(name));
    this.colours = { paper, ink, line, quiet };
    for (const one of this.people.values()) one.paint();
    this.glanced = 0;
    this.move();
  }

  private get seconds(): number {
    const { meeting } = this;
    return Math.max(meeting.length ?? 0, meeting.told, meeting.position, meeting.tracks.end) / RATE;
  }

  private lookAt(second: number | null): void {
    this.look = second;
    this.back.hidden = second === null;
    this.move();
  }

  /** To a share of the whole: the playhead, where there is one to be moved, else the picture. */
  private go(share: number): void {
    const second = share * this.seconds;
    if (this.meeting.playable) void this.meeting.playing.seek(second * RATE);
    else if (this.meeting.live) this.lookAt(second);
    this.glanced = 0;
    this.move();
  }

  private draw(): void {
    const { meeting } = this;
    const { speaking, position } = meeting;
    write(this.said, now(meeting));
    const width = this.ruler.clientWidth;
    const at = position / RATE;
    const live = meeting.live && meeting.open && this.look === null;
    this.shown = span(width, this.look ?? at, live, at);
    for (const [speaker, one] of this.people) {
      one.speaking(speaking.includes(speaker));
      one.draw(this.shown, this.colours);
    }
    const context = pen(this.ruler);
    if (context) drawRuler(context, width, this.ruler.clientHeight, this.shown, this.colours.quiet, clock);
  }

  private glance(): void {
    const context = pen(this.whole);
    if (context === null) return;
    const colours: string[] = [];
    for (const [speaker, one] of this.people) colours[speaker] = one.colour;
    const rate = this.meeting.ready?.rate ?? RATE;
    const { seconds, shown } = this;
    drawOverview(context, this.whole.clientWidth, this.whole.clientHeight, this.meeting.book, { seconds, rate, colours, ink: this.colours.ink, window: shown });
  }

  /** Linear peaks of all tracks. */
  levels(peaks: ArrayLike<number> | null): void {
    for (const [speaker, one] of this.people) one.level(peaks?.[speaker] ?? 0);
  }
}
