// Latency against quality: which models can be had live here, how soon each answers, and how many more this machine would carry.

import type { Model } from "../../../client/models";
import type { Capacity } from "../../capacity";
import { ms } from "../../ui/text";

export interface Reach {
  least: number; // ms
  most: number; // the model's default: the longest that it asks for by itself
  step: number;
}

/** Those that take music apart come first, then by how soon they answer; those that nobody has measured here yet are last. */
export function offered(models: readonly Model[]): Model[] {
  const late = ({ latency_ms }: Model): number => latency_ms?.default ?? Infinity;
  const people = ({ interchangeable }: Model): number => Number(interchangeable);
  return models
    .filter((model) => model.modes?.includes("separate") ?? true)
    .toSorted((a, b) => Number(b.present) - Number(a.present) || people(a) - people(b) || late(a) - late(b) || a.name.localeCompare(b.name));
}

/** What there is to choose, in whole steps from the least to the most; null where a model answers as it answers. */
export function reach(model: Model | undefined): Reach | null {
  const { min, default: usual } = model?.latency_ms ?? { min: 0, default: 0 };
  const most = Math.ceil(usual);
  const range = most - Math.ceil(min);
  if (range <= 0.1 * most) return null;
  const step = Math.max(1, Math.round(range / 100));
  return { least: most - Math.floor(range / step) * step, most, step };
}

export function label(model: Model): string {
  const sources = model.sources.join(", ").replaceAll("_", " ");
  const late = model.latency_ms ? `, ${ms(model.latency_ms.default)}` : "";
  return `${model.name}${late}: ${sources}${model.present ? "" : " (to be fetched)"}`;
}

/** In a sentence: what this choice costs and brings, and what the machine can do. */
export function account(model: Model | undefined, latency: number | null, capacity: Capacity | null): string {
  if (model === undefined) return "";
  const soon = latency ?? model.latency_ms?.default;
  const parts = [soon === undefined ? "not measured on this server yet" : `promised within ${ms(soon)}`];
  const found = reach(model);
  if (found && latency !== null && latency < found.most) parts.push("sooner than the model likes: it hears less of what comes next and separates less cleanly");
  const free = capacity?.free[model.name];
  if (free !== undefined) parts.push(free === 0 ? "the server has no room for another one now" : `the server has room for ${free} more like this`);
  if (!model.present) parts.push("its weights have to be fetched first");
  const text = parts.join("; ");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
