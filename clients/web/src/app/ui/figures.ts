// The latency panel: what the server promised, and what was measured here.

import type { App } from "../app";
import { RATE } from "../app";
import { ms } from "./text";

interface Figure {
  name: string;
  value: string;
  note: string;
}

export function figures(app: App): Figure[] {
  const { run } = app;
  const live = app.purpose === "microphone";
  const ready = run?.ready;
  const report = run?.report;
  const seconds = (value: number | null | undefined): string => ms(value == null ? null : value * 1000);
  const list: Figure[] = [
    {
      name: "Promised",
      value: ms(ready?.latency_ms),
      note: ready ? `by the server, computing included; the model alone needs ${ms((ready.latency_samples / ready.rate) * 1000)}` : "by the server",
    },
    {
      name: live ? "Microphone to stems" : "Arrival lag",
      value: seconds(run?.latency.median),
      note: `${live ? "capture of a sample to its arrival here" : "sending to arrival; a song is sent faster than it plays, so it queues"}${run?.latency.worst == null ? "" : `; worst ${seconds(run.latency.worst)}`}`,
    },
  ];
  if (live && app.mode === "speakers") {
    list.push({ name: "Voice to turn", value: seconds(run?.toTurn), note: `capture of a sample to knowing who spoke${ready?.diarizer ? `, by ${ready.diarizer}` : ""}` });
  }
  if (live) list.push({ name: "Microphone to ear", value: seconds(run?.toEar), note: "with the buffer and the output device" });
  list.push({
    name: "In store",
    value: report ? ms((report.buffered / RATE) * 1000) : "–",
    note: report ? `stems here, not yet played; ${dropouts(report.underruns)}${run?.stats ? `; the model takes ${ms(run.stats.compute_p95_ms)} a step` : ""}` : "stems here, not yet played",
  });
  return list;
}

const dropouts = (count: number): string => (count === 0 ? "no dropouts" : count === 1 ? "1 dropout" : `${count} dropouts`);

export function showFigures(list: HTMLElement, values: readonly Figure[]): void {
  while (list.children.length > values.length) list.lastElementChild?.remove();
  while (list.children.length < values.length) {
    const item = list.appendChild(document.createElement("div"));
    item.append(document.createElement("dt"), document.createElement("dd"), document.createElement("dd"));
  }
  values.forEach((figure, i) => {
    [figure.name, figure.value, figure.note].forEach((text, k) => {
      const cell = list.children[i].children[k];
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
}
