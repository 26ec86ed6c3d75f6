// Numbers and names as a person reads them.

import { FLOOR } from "../faders";

export const clock = (seconds: number): string => {
  const whole = Math.floor(Math.max(0, seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export const ms = (value: number | null | undefined): string =>
  value == null ? "–" : value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;

/** A share of one. */
export const percent = (value: number): string => `${Math.round(value * 100)} %`;

export const decibels = (value: number): string =>
  value <= FLOOR ? "off" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)} dB`;

/** `speaker_1` to `Speaker 1`. */
export const title = (name: string): string => {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** A linear peak as a share of the meter, which shows the uppermost 60 dB. */
export const share = (peak: number): number => Math.min(1, Math.max(0, 1 + (20 * Math.log10(Math.max(peak, 1e-6))) / -FLOOR));
