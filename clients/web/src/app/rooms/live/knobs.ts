// One stem's row of the desk: the track of every room, and where it stands between left and right.

import { type Fader, freshFader } from "../../faders";
import { make } from "../../ui/elements";
import { strip } from "../../ui/strip";
import { title } from "../../ui/text";

export interface Knobs extends Fader {
  pan: number; // -1 is left, 1 is right
}

export const freshKnobs = (): Knobs => ({ ...freshFader(), pan: 0 });

const STEP = 0.05;

export interface Row {
  element: HTMLElement;
  show(knobs: Knobs, sounding: boolean): void;
  /** A linear peak; the lane moves on only while time does. */
  level(peak: number, moving: boolean): void;
}

/** `-0.5` to `50 left`. */
export const side = (pan: number): string => {
  const share = Math.round(Math.abs(pan) * 100);
  return share === 0 ? "centre" : `${share} ${pan < 0 ? "left" : "right"}`;
};

export function row(stem: string, index: number, change: (change: Partial<Knobs>) => void): Row {
  const desk = strip(stem, index, change);
  const attributes = { type: "range", min: "-1", max: "1", step: String(STEP), value: "0", title: "Double-click for the centre" };
  const pan = make("input", { ...attributes, "aria-label": `${title(stem)} pan` });
  const value = make("output", { class: "value" });
  const place = make("div", { class: "pan" });
  const ends = ["L", "R"].map((text) => make("span", { "aria-hidden": "true" }, text));
  place.append(ends[0], pan, ends[1], value);
  pan.addEventListener("input", () => change({ pan: pan.valueAsNumber }));
  pan.addEventListener("dblclick", () => change({ pan: 0 }));
  desk.element.append(place);
  return {
    element: desk.element,
    show(knobs, sounding) {
      desk.show(knobs, sounding);
      pan.value = String(knobs.pan);
      pan.setAttribute("aria-valuetext", side(knobs.pan));
      value.textContent = side(knobs.pan);
    },
    level: desk.level,
  };
}
