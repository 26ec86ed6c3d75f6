// The card of a conversation: a lane for everybody who has spoken, the time under them, and the turns to take away.

import { type App, RATE } from "../app";
import { type Conversation as Told, json, rttm, stem } from "../../client/export";
import { gains } from "../faders";
import { make, pen, write } from "./elements";
import { type Person, person } from "./person";
import { drawRuler, span } from "./span";
import { clock } from "./text";

const LISTED = 200; // turns in the list
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Conversation {
  private readonly people = new Map<number, Person>();
  private readonly lanes = make("div", { class: "lanes" });
  private readonly ruler = make("canvas", { class: "ruler", "aria-hidden": "true" });
  private readonly now = make("p", { class: "quiet now" });
  private readonly list = make("ol");
  private readonly listed = make("details", { class: "listed" });
  private readonly saves: HTMLButtonElement[];
  private drawn = 0;
  private at = 0; // second of the recording: the playhead, also when it is gone

  constructor(private readonly app: App, card: HTMLElement) {
    this.saves = (["RTTM", "JSON"] as const).map((kind) => {
      const button = make("button", { type: "button", class: "toggle", "aria-label": `Save the turns as ${kind}` }, kind);
      button.addEventListener("click", () => this.save(kind));
      return button;
    });
    const foot = make("div", { class: "foot" });
    this.listed.append(make("summary", {}, "Turns as a list"), this.list);
    this.listed.addEventListener("toggle", () => this.showList());
    foot.append(make("span", { class: "quiet" }, "Save the turns"), ...this.saves);
    this.lanes.append(this.ruler);
    card.append(this.now, this.lanes, foot, this.listed);
  }

  /** A new session: nobody has spoken. */
  clear(): void {
    this.at = 0;
    this.people.clear();
    this.lanes.replaceChildren(this.ruler);
    this.list.replaceChildren();
  }

  /** Anything but the playhead and the levels. */
  show(): void {
    const { app } = this;
    this.meet();
    const faders = app.stems.map((name) => app.fader(name));
    const loud = gains(faders, true);
    for (const [speaker, one] of this.people) {
      if (faders[speaker]) one.show(faders[speaker], loud[speaker] > 0, app.nameOf(speaker));
    }
    for (const button of this.saves) button.disabled = this.people.size === 0;
    this.showList();
    this.draw();
  }

  /** The playhead and the levels. */
  move(): void {
    const report = this.app.run?.report;
    if (!report) return;
    this.at = this.app.position / RATE;
    for (const [speaker, one] of this.people) one.level(report.peaks[speaker] ?? 0, this.at, report.phase === "playing");
    this.drawn += 1;
    if (!still.matches || this.drawn % 30 === 0) this.draw();
  }

  private meet(): void {
    const { app } = this;
    for (const speaker of app.timeline.speakers) {
      if (this.people.has(speaker) || !app.stems[speaker]) continue;
      const rename = (name: string): void => app.setName(speaker, name);
      const one = person(speaker, (change) => app.setFader(app.stems[speaker], change), rename);
      this.people.set(speaker, one);
      const after = [...this.people.keys()].filter((other) => other > speaker).sort((a, b) => a - b)[0];
      this.lanes.insertBefore(one.element, after === undefined ? this.ruler : this.people.get(after)!.element);
    }
    this.lanes.hidden = this.people.size === 0;
  }

  /** Who speaks: with a microphone as soon as it is known, in a file as it is heard. */
  private get speaking(): readonly number[] {
    const { app } = this;
    if (app.phase !== "playing") return [];
    return app.purpose === "microphone" ? app.timeline.active : app.timeline.at(app.position - app.timeline.origin);
  }

  private draw(): void {
    const { app, speaking } = this;
    for (const [speaker, one] of this.people) one.speaking(speaking.includes(speaker));
    const named = speaking.filter((speaker) => this.people.has(speaker)).map((speaker) => app.nameOf(speaker));
    const silence = this.people.size === 0 ? "Nobody has spoken yet. Everybody gets a lane when they do." : "Nobody speaks.";
    write(this.now, named.length > 0 ? `${named.join(" and ")} ${named.length > 1 ? "speak" : "speaks"}.` : silence);
    const width = this.ruler.clientWidth;
    const shown = span(width, this.at, app.purpose === "microphone");
    const style = getComputedStyle(this.ruler);
    const [paper, ink, line] = ["--card", "--ink", "--line"].map((name) => style.getPropertyValue(name));
    for (const one of this.people.values()) one.draw(shown, app.timeline, { paper, ink, line });
    const context = pen(this.ruler);
    if (context) drawRuler(context, width, this.ruler.clientHeight, shown, style.color, clock);
  }

  private showList(): void {
    if (!this.listed.open) return;
    const { app } = this;
    const lines = app.timeline.turns.filter((turn) => turn.final).slice(-LISTED).map(({ speaker, start, end }) => {
      const [from, to] = [start, end].map((sample) => clock((app.timeline.origin + sample) / RATE));
      return `${from} to ${to}: ${app.nameOf(speaker)}`;
    });
    while (this.list.children.length > lines.length) this.list.lastElementChild?.remove();
    while (this.list.children.length < lines.length) this.list.append(make("li"));
    lines.forEach((line, i) => write(this.list.children[i] as HTMLElement, line));
  }

  private save(kind: "RTTM" | "JSON"): void {
    const { app } = this;
    const recording = app.purpose === "file" ? (app.song?.name ?? "conversation") : "microphone";
    const told: Told = {
      recording: stem(recording), rate: RATE, origin: app.timeline.origin, model: app.used.model, diarizer: app.used.diarizer,
      turns: app.timeline.turns, nameOf: (speaker) => app.nameOf(speaker),
    };
    const url = URL.createObjectURL(new Blob([kind === "RTTM" ? rttm(told) : json(told)], { type: "text/plain" }));
    make("a", { href: url, download: `${stem(recording)}.${kind.toLowerCase()}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}
