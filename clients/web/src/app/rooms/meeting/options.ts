// What a meeting is asked for: whom to tell apart and how, as the form says it and as `start` does.

import type { Mode, SpeakerOptions, Start } from "../../../client/codec";
import { type Model, pick, speaks } from "../../../client/models";
import type { TransportName } from "../../../client/stream";

export interface Options {
  mode: Extract<Mode, "speakers" | "diarize">;
  model: string; // "": whatever suits
  max: number; // people; 0: as many as the server expects
  exclusive: boolean; // one at a time
  buffer_s: number; // 0: no longer than it must
  music: boolean; // taken out first
  diarizer: string; // "": the server's own
  transport: TransportName; // of what is live
}

export const USUAL: Options = {
  mode: "speakers", model: "", max: 0, exclusive: false, buffer_s: 0, music: false, diarizer: "", transport: "websocket",
};

/** The model that takes music out, if the server has one: any that names vocals. */
export const musician = (models: readonly Model[]): Model | undefined =>
  models.find((model) => model.present && model.sources.includes("vocals"));

/** Models that can give a track a person. */
export const talkers = (models: readonly Model[]): Model[] => models.filter(speaks);

export function wanted(options: Options, models: readonly Model[]): Pick<Start, "model" | "mode" | "speakers"> {
  const able = talkers(models);
  const model = able.find(({ name }) => name === options.model) ?? pick(able, "microphone");
  const first = options.music ? musician(models)?.name : undefined;
  const speakers: SpeakerOptions = {
    ...(options.max > 0 && { max: options.max }),
    ...(options.exclusive && { exclude_overlaps: true }),
    ...(options.buffer_s > 0 && { buffer_time_s: options.buffer_s }),
    ...(options.diarizer && { diarizer: options.diarizer }),
    ...(first !== undefined && { first }),
  };
  return { model: model?.name ?? "speech", mode: options.mode, ...(Object.keys(speakers).length > 0 && { speakers }) };
}
