// Faders that somebody would set in one go.

import { FLOOR, type Fader, freshFader } from "../../faders";

export interface Preset {
  name: string;
  hint: string;
  fader(stem: string): Fader;
}

const down: Fader = { decibels: FLOOR, mute: false, solo: false };
const behind: Fader = { decibels: -18, mute: false, solo: false };

/** This stem so, and all others that way. */
const split = (stem: string, its: Fader, others = freshFader()) => (one: string): Fader => (one === stem ? its : others);

/** `focus`: the instrument that somebody practises. */
export function presets(stems: readonly string[], focus: string): Preset[] {
  const sung = stems.includes("vocals");
  const list: Preset[] = [{ name: "Full song", hint: "Every fader at 0 dB", fader: freshFader }];
  if (sung) {
    list.push({ name: "Karaoke", hint: "Vocals down: you sing", fader: split("vocals", down) });
    list.push({ name: "Guide voice", hint: "Vocals far behind, to hold on to", fader: split("vocals", behind) });
    list.push({ name: "A cappella", hint: "Vocals alone", fader: split("vocals", freshFader(), down) });
  }
  list.push({ name: "Practice", hint: "One instrument down: you play it", fader: split(focus, down) });
  return list;
}
