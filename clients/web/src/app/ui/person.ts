// One speaker's lane: a name to edit, the turns as they come, level, fader, mute, solo.

import type { Fader } from "../faders";
import type { Timeline } from "../../client/turns";
import { controls } from "./controls";
import { make, pen } from "./elements";
import { type Colours, Levels, type Span, drawLane } from "./span";

const HUES = [200, 35, 320, 140, 265, 75, 10, 170]; // neighbours are far from one another

export interface Person {
  element: HTMLElement;
  show(fader: Fader, sounding: boolean, name: string): void;
  speaking(now: boolean): void;
  /** A linear peak of the sound before second `at`. */
  level(peak: number, at: number, moving: boolean): void;
  draw(span: Span, timeline: Timeline, colours: Omit<Colours, "own">): void;
}

export function person(speaker: number, change: (change: Partial<Fader>) => void, rename: (name: string) => void): Person {
  const number = String(speaker + 1);
  const element = make("div", { class: "strip person", role: "group", "data-speaker": number });
  element.style.setProperty("--hue", String(HUES[speaker % HUES.length]));
  const name = make("input", {
    class: "name", type: "text", maxlength: "40", autocomplete: "off", spellcheck: "false", "aria-label": `Name of speaker ${number}`,
    title: "Type a name",
  });
  const canvas = make("canvas", { class: "turns", "aria-hidden": "true" });
  const desk = controls(`Speaker ${number}`, change);
  const view = make("div", { class: "view" });
  view.append(canvas, desk.meter);
  element.append(name, view, ...desk.elements);
  name.addEventListener("change", () => rename(name.value));
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter") name.blur();
  });

  const levels = new Levels();
  return {
    element,
    show(state, sounding, text) {
      desk.show(state);
      desk.name(text);
      element.ariaLabel = text;
      if (document.activeElement !== name) name.value = text;
      element.classList.toggle("silent", !sounding);
    },
    speaking: (now) => void element.classList.toggle("speaking", now),
    level(peak, at, moving) {
      desk.level(peak);
      if (moving) levels.push(at, peak);
    },
    draw(span, timeline, colours) {
      const context = pen(canvas);
      if (context === null) return;
      const { rate, origin } = timeline;
      const turns = timeline.between(speaker, span.from * rate - origin, (span.from + span.seconds) * rate - origin);
      const all = { ...colours, own: getComputedStyle(canvas).color };
      drawLane(context, canvas.clientWidth, canvas.clientHeight, span, turns, rate, origin, levels, all);
    },
  };
}
