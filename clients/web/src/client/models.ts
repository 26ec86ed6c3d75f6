// What the server offers, and which of it to use when nobody has chosen.

import type { Mode } from "./codec";
import { Failure, needsKey } from "./errors";

export type Purpose = "file" | "microphone";
export type Into = "suits" | "stems" | "speakers"; // what the sound is taken apart into

export interface Model {
  name: string;
  sources: string[];
  rate: number;
  channels: number;
  latency_ms: { min: number; default: number } | null; // null until the server has loaded and measured it
  licence: string;
  present: boolean;
  interchangeable: boolean;
  default_for: readonly Purpose[];
  modes?: readonly Mode[]; // none: only `separate`
}

export interface Choice {
  model: Model | undefined;
  mode: Mode;
}

/** Whether it gives a track a person. */
export const speaks = (model: Model): boolean => model.modes?.includes("speakers") ?? false;

export async function fetchModels(headers: Record<string, string> = {}): Promise<Model[]> {
  const response = await fetch("/v1/models", { headers }).catch(() => null);
  if (response === null) throw new Failure("The server cannot be reached.", "Check that it runs, then reload the page.", "unreachable");
  if (response.status === 401) throw needsKey();
  if (!response.ok) throw new Failure(`The server did not list its models (HTTP ${response.status}).`, "Reload the page.");
  const models = (await response.json()) as Model[];
  if (models.length === 0) throw new Failure("The server has no models.", "Its log says which weights are missing.");
  return models;
}

/** The model for `purpose`: the one declared for it, else one that fits; of those whose weights are there, if any are. */
export function pick(models: readonly Model[], purpose: Purpose): Model | undefined {
  const present = models.filter((model) => model.present);
  const among = present.length > 0 ? present : models;
  return (
    among.find((model) => model.default_for.includes(purpose)) ??
    among.find((model) => model.interchangeable === (purpose === "microphone")) ??
    among[0]
  );
}

/** `chosen`: a model by name, which wins unless it cannot do what is asked. A microphone hears people, where that is offered. */
export function choose(models: readonly Model[], purpose: Purpose, into: Into, chosen: string | null = null): Choice {
  const named = models.filter((model) => model.name === chosen);
  const among = named.length > 0 ? named : models;
  const people = among.some(speaks) ? among.filter(speaks) : models.filter(speaks);
  const wanted = into === "speakers" || (into === "suits" && among.some(speaks) && (purpose === "microphone" || among.every(speaks)));
  if (wanted && people.length > 0) return { model: pick(people, "microphone"), mode: "speakers" };
  return { model: pick(among, purpose), mode: "separate" };
}
