// One stem's row: name, lane, level, fader, mute, solo.

import type { Fader } from "../faders";
import { controls } from "./controls";
import { make } from "./elements";
import { Lane } from "./lane";
import { title } from "./text";

const HUES: Record<string, number> = { vocals: 345, drums: 35, bass: 265, other: 165, speaker_1: 195, speaker_2: 30 };

export interface Strip {
  element: HTMLElement;
  show(fader: Fader, sounding: boolean): void;
  /** A linear peak; the lane moves on only while time does. */
  level(peak: number, moving: boolean): void;
}

export function strip(stem: string, index: number, change: (change: Partial<Fader>) => void): Strip {
  const name = title(stem);
  const element = make("div", { class: "strip", role: "group", "aria-label": name, "data-stem": stem });
  element.style.setProperty("--hue", String(HUES[stem] ?? (index * 137 + 200) % 360));
  const canvas = make("canvas", { class: "lane", "aria-hidden": "true" });
  const desk = controls(name, change);
  const view = make("div", { class: "view" });
  view.append(canvas, desk.meter);
  element.append(make("span", { class: "name" }, name), view, ...desk.elements);

  const lane = new Lane(canvas);
  return {
    element,
    show(state, sounding) {
      desk.show(state);
      element.classList.toggle("silent", !sounding);
    },
    level(peak, moving) {
      desk.level(peak);
      if (moving) lane.push(peak);
    },
  };
}
