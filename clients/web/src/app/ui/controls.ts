// What every track has: a level, a fader, a mute and a solo. Native elements, so that keyboard and screen reader just work.

import { CEILING, type Fader, FLOOR, STEP } from "../faders";
import { make } from "./elements";
import { decibels, share } from "./text";

export interface Controls {
  meter: HTMLElement;
  elements: HTMLElement[]; // fader, its value, mute, solo
  name(name: string): void;
  show(fader: Fader): void;
  /** A linear peak. */
  level(peak: number): void;
}

export function controls(name: string, change: (change: Partial<Fader>) => void): Controls {
  const meter = make("div", { class: "meter", role: "meter", "aria-valuemin": String(FLOOR), "aria-valuemax": "0" });
  const bar = meter.appendChild(make("div"));
  const range = { type: "range", min: String(FLOOR), max: String(CEILING), step: String(STEP), title: "Double-click for 0 dB" };
  const fader = make("input", range);
  const value = make("output", { class: "value" });
  const mute = make("button", { type: "button", class: "toggle mute" }, "Mute");
  const solo = make("button", { type: "button", class: "toggle solo" }, "Solo");
  fader.addEventListener("input", () => change({ decibels: fader.valueAsNumber }));
  fader.addEventListener("dblclick", () => change({ decibels: 0 }));
  mute.addEventListener("click", () => change({ mute: mute.ariaPressed !== "true" }));
  solo.addEventListener("click", () => change({ solo: solo.ariaPressed !== "true" }));

  let shown = 0;
  const made: Controls = {
    meter,
    elements: [fader, value, mute, solo],
    name(text) {
      meter.ariaLabel = `${text} level`;
      fader.ariaLabel = `${text} volume`;
      mute.ariaLabel = `Mute ${text}`;
      solo.ariaLabel = `Solo ${text}`;
    },
    show(state) {
      fader.value = String(state.decibels);
      fader.setAttribute("aria-valuetext", decibels(state.decibels));
      value.textContent = decibels(state.decibels);
      mute.ariaPressed = String(state.mute);
      solo.ariaPressed = String(state.solo);
    },
    level(peak) {
      shown = Math.max(share(peak), shown - 0.04); // falls 75 dB a second: quick enough to follow, slow enough to see
      bar.style.transform = `scaleX(${shown.toFixed(3)})`;
      meter.setAttribute("aria-valuenow", String(Math.round(FLOOR + shown * -FLOOR)));
    },
  };
  made.name(name);
  made.level(0);
  return made;
}
