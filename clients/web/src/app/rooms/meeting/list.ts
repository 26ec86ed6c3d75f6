// The final turns as a list, each of which can be heard again. They never change, so lines are only added.

import { make, write } from "../../ui/elements";
import type { Meeting } from "./meeting";
import { tenths } from "./words";

const MOST = 5000; // lines: those before are in the files

interface Line {
  line: HTMLElement;
  name: HTMLElement;
  play: HTMLButtonElement;
  speaker: number;
}

export class List {
  readonly element = make("details", { class: "more listed" });
  private readonly list = make("ol");
  private readonly lines = new Map<number, Line>(); // by turn

  constructor(private readonly meeting: Meeting) {
    this.element.append(make("summary", {}, "Turns as a list"), this.list);
    this.element.addEventListener("toggle", () => this.show());
  }

  clear(): void {
    this.lines.clear();
    this.list.replaceChildren();
  }

  show(): void {
    if (!this.element.open) return;
    const { meeting } = this;
    const final = meeting.book.turns.filter((turn) => turn.final).slice(-MOST);
    let before: HTMLElement | null = null;
    for (const { id, speaker, start, end } of final) {
      const known: Line = this.lines.get(id) ?? this.add(id, speaker, start, end, before);
      before = known.line;
    }
    for (const { name, play, speaker } of this.lines.values()) {
      write(name, meeting.nameOf(speaker));
      play.disabled = !meeting.playable;
    }
  }

  private add(id: number, speaker: number, start: number, end: number, before: HTMLElement | null): Line {
    const line = make("li");
    const [from, to] = [start, end].map((sample) => tenths(sample / (this.meeting.ready?.rate ?? 1)));
    const play = make("button", { type: "button", class: "toggle", "aria-label": `Play from ${from}` }, from);
    play.addEventListener("click", () => void this.meeting.playing.from(start));
    const name = make("span");
    line.append(play, make("span", { class: "quiet" }, ` to ${to} `), name);
    if (before) before.after(line);
    else this.list.prepend(line);
    const known = { line, name, play, speaker };
    this.lines.set(id, known);
    return known;
  }
}
