// One stem's row: name, lane, level, fader, mute, solo. Native elements, so that keyboard and screen reader just work.

import { CEILING, type Fader, FLOOR, STEP } from "../faders";
import { Lane } from "./lane";
import { decibels, share, title } from "./text";

const HUES: Record<string, number> = { vocals: 345, drums: 35, bass: 265, other: 165, speaker_1: 195, speaker_2: 30 };

export interface Strip {
  element: HTMLElement;
  show(fader: Fader, sounding: boolean): void;
  /** A linear peak; the lane moves on only while time does. */
  level(peak: number, moving: boolean): void;
}

const make = <K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string>, text = "",
): HTMLElementTagNameMap[K] => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
};

export function strip(stem: string, index: number, change: (change: Partial<Fader>) => void): Strip {
  const name = title(stem);
  const element = make("div", { class: "strip", role: "group", "aria-label": name, "data-stem": stem });
  element.style.setProperty("--hue", String(HUES[stem] ?? (index * 137 + 200) % 360));
  const canvas = make("canvas", { class: "lane", "aria-hidden": "true" });
  const meter = make("div", {
    class: "meter", role: "meter", "aria-label": `${name} level`, "aria-valuemin": String(FLOOR), "aria-valuemax": "0",
  });
  const bar = meter.appendChild(make("div", {}));
  const fader = make("input", {
    type: "range", min: String(FLOOR), max: String(CEILING), step: String(STEP), "aria-label": `${name} volume`,
    title: "Double-click for 0 dB",
  });
  const value = make("output", { class: "value" });
  const mute = make("button", { type: "button", class: "toggle mute", "aria-label": `Mute ${name}` }, "Mute");
  const solo = make("button", { type: "button", class: "toggle solo", "aria-label": `Solo ${name}` }, "Solo");
  const view = make("div", { class: "view" });
  view.append(canvas, meter);
  element.append(make("span", { class: "name" }, name), view, fader, value, mute, solo);

  fader.addEventListener("input", () => change({ decibels: fader.valueAsNumber }));
  fader.addEventListener("dblclick", () => change({ decibels: 0 }));
  mute.addEventListener("click", () => change({ mute: mute.ariaPressed !== "true" }));
  solo.addEventListener("click", () => change({ solo: solo.ariaPressed !== "true" }));

  const lane = new Lane(canvas);
  let shown = 0;
  return {
    element,
    show(state, sounding) {
      fader.value = String(state.decibels);
      fader.setAttribute("aria-valuetext", decibels(state.decibels));
      value.textContent = decibels(state.decibels);
      mute.ariaPressed = String(state.mute);
      solo.ariaPressed = String(state.solo);
      element.classList.toggle("silent", !sounding);
    },
    level(peak, moving) {
      shown = Math.max(share(peak), shown - 0.04); // falls 75 dB a second: quick enough to follow, slow enough to see
      bar.style.transform = `scaleX(${shown.toFixed(3)})`;
      meter.setAttribute("aria-valuenow", String(Math.round(FLOOR + shown * -FLOOR)));
      if (moving) lane.push(peak);
    },
  };
}
