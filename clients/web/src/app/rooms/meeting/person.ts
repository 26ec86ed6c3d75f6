// One speaker's lane: a name to edit, how long they spoke, the turns as they come, level, fader, mute, solo, and the track
// to take away.

import { controls } from "../../ui/controls";
import { make, pen, write } from "../../ui/elements";
import type { Meeting } from "./meeting";
import { type Colours, type Span, drawLane } from "./span";
import { spoken } from "./words";

const HUES = [200, 35, 320, 140, 265, 85, 10, 170]; // neighbours are far from one another

export interface Person {
  element: HTMLElement;
  colour: string;
  show(): void; // anything but the playhead
  level(peak: number): void;
  speaking(now: boolean): void;
  draw(span: Span, colours: Omit<Colours, "own">): void;
  paint(): void; // the theme has changed
}

export function person(meeting: Meeting, speaker: number, save: () => void): Person {
  const number = String(speaker + 1);
  const element = make("div", { class: "strip person", role: "group", "data-speaker": number });
  element.style.setProperty("--hue", String(HUES[speaker % HUES.length]));
  const name = make("input", {
    class: "name", type: "text", maxlength: "40", autocomplete: "off", spellcheck: "false", "aria-label": `Name of speaker ${number}`,
    title: "Type a name",
  });
  const time = make("span", { class: "spoken quiet" });
  const who = make("div", { class: "who" });
  who.append(name, time);
  const canvas = make("canvas", { class: "turns", "aria-hidden": "true" });
  const desk = controls(`Speaker ${number}`, (change) => meeting.cast.setFader(speaker, change));
  const view = make("div", { class: "view" });
  view.append(canvas, desk.meter);
  const take = make("button", { type: "button", class: "toggle icon", title: "Save this track (WAV)" });
  take.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 4v11m-5-4 5 5 5-5M5 20h14" /></svg>';
  take.addEventListener("click", save);
  element.append(who, view, ...desk.elements, take);
  name.addEventListener("change", () => meeting.cast.setName(speaker, name.value));
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter") name.blur();
  });

  const one: Person = {
    element,
    colour: "",
    show() {
      const text = meeting.nameOf(speaker);
      const sounding = meeting.cast.gains(meeting.stems.length, true)[speaker] ?? 1;
      desk.show(meeting.cast.fader(speaker));
      desk.name(text);
      element.ariaLabel = text;
      take.ariaLabel = `Save the track of ${text}`;
      take.disabled = meeting.tracks.end === meeting.tracks.from;
      if (document.activeElement !== name) name.value = text;
      element.classList.toggle("silent", !(sounding > 0));
      element.classList.toggle("mute-only", meeting.stems.length === 0);
      write(time, spoken(meeting.book, speaker, meeting.ready?.rate ?? 1));
    },
    level: (peak) => desk.level(peak),
    speaking: (now) => void element.classList.toggle("speaking", now),
    draw(span, colours) {
      const context = pen(canvas);
      if (context === null) return;
      const rate = meeting.ready?.rate ?? 1;
      const [from, to] = [span.from, span.from + span.seconds];
      const said = {
        turns: meeting.book.between(speaker, from * rate, to * rate), levels: meeting.levels.between(speaker, from, to), rate,
      };
      drawLane(context, canvas.clientWidth, canvas.clientHeight, span, said, { ...colours, own: one.colour });
    },
    paint() {
      one.colour = getComputedStyle(canvas).color;
    },
  };
  return one;
}

