// Wires the elements of index.html to the app. No element knows about audio, and no audio about elements.

import { App, RATE } from "./app";
import { debug } from "./debug";
import { asFailure } from "../client/errors";
import { gains } from "./faders";
import { type Into, type Model, fetchModels, speaks } from "../client/models";
import { Conversation } from "./ui/conversation";
import { figures, showFigures } from "./ui/figures";
import { reconnecting, status } from "./ui/status";
import { type Strip, strip } from "./ui/strip";
import { clock, ms } from "./ui/text";

declare global {
  interface Window {
    rivulet: ReturnType<typeof debug>;
  }
}

const at = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const [play, stop, listen, microphone] = ["play", "stop", "listen", "microphone"].map(at<HTMLButtonElement>);
const [file, seek] = ["file", "seek"].map(at<HTMLInputElement>);
const model = at<HTMLSelectElement>("model");
const into = [...document.querySelectorAll<HTMLInputElement>("#into input")];

const app = new App();
const conversation = new Conversation(app, at("people"));
let told = app.timeline;
window.rivulet = debug(app);
let strips: Strip[] = [];
let stripped: readonly string[] = [];
let seeking = false;

function showStems(): void {
  const people = app.mode === "speakers";
  at("stems-card").hidden = app.stems.length === 0;
  at("stems-title").textContent = app.stems.some((stem) => stem.startsWith("speaker")) ? "Speakers" : "Stems";
  at("people").hidden = !people;
  if (told !== app.timeline) {
    told = app.timeline;
    conversation.clear();
  }
  if (people) conversation.show();
  showStrips(people ? [] : app.stems);
}

function showStrips(stems: readonly string[]): void {
  if (stems.join() !== stripped.join()) {
    stripped = stems;
    strips = stripped.map((stem, i) => strip(stem, i, (change) => app.setFader(stem, change)));
    at("strips").replaceChildren(...strips.map((one) => one.element));
  }
  const faders = stripped.map((stem) => app.fader(stem));
  const loud = gains(faders, app.listening);
  strips.forEach((one, i) => one.show(faders[i], loud[i] > 0));
}

function showPlayhead(): void {
  at("time").textContent = clock(app.position / RATE);
  at("duration").textContent = app.song && app.purpose === "file" ? ` / ${clock(app.song.planes[0].length / RATE)}` : "";
  if (!seeking) seek.valueAsNumber = app.position;
  seek.setAttribute("aria-valuetext", clock(seek.valueAsNumber / RATE));
  const text = status(app);
  if (at("status").textContent !== text) at("status").textContent = text;
}

function show(): void {
  const busy = app.phase === "playing" || app.phase === "connecting";
  const live = app.purpose === "microphone";
  play.textContent = busy ? "Pause" : "Play";
  play.disabled = app.phase === "decoding" || app.phase === "asking" || (!app.song && !live) || (live && app.phase === "idle");
  stop.disabled = (app.phase === "idle" && app.position === 0) || app.phase === "decoding";
  listen.ariaPressed = String(app.listening);
  microphone.ariaPressed = String(live && app.phase !== "idle" && app.phase !== "failed");
  at("song-name").textContent = app.song?.name ?? (app.models.some(speaks) ? "Choose a song or a conversation" : "Choose a song");
  seek.disabled = !app.song || live;
  seek.hidden = live;
  seek.max = String(app.song?.planes[0].length ?? 1);
  const error = at("error");
  error.hidden = app.failure === null;
  at("away").hidden = !app.away;
  at("away").textContent = app.away ? reconnecting(app) : "";
  error.textContent = app.failure ? `${app.failure.message} ${app.failure.advice}` : "";
  showStems();
  showPlayhead();
  showModelNote();
  showFigures(at("figures"), figures(app));
}

function showModelNote(): void {
  const { model: choice, mode } = app.choice;
  const latency = choice?.latency_ms ? `about ${ms(choice.latency_ms.default)} late` : "";
  const absent = choice && !choice.present ? "the server has to fetch its weights first" : "";
  const licence = choice && app.chosen === choice.name ? `licence ${choice.licence}` : "";
  const parts = choice ? [app.chosen === choice.name ? "" : `now ${choice.name}`, mode === "speakers" ? "a track a person" : latency, absent, licence].filter(Boolean) : [];
  at("model-note").textContent = parts.join("; ");
}

function offer(models: Model[]): void {
  app.models = models;
  model.replaceChildren(new Option("What suits the source", ""));
  for (const one of models) {
    const sources = one.sources.join(", ").replaceAll("_", " ");
    model.append(new Option(`${one.name}: ${sources}${one.present ? "" : " (to be fetched)"}`, one.name));
  }
  model.disabled = false;
  at("into").hidden = !models.some(speaks);
}

let drawn = 0;
app.onchange = show;
app.onspeakers = () => {
  conversation.show();
};
app.onreport = () => {
  const peaks = app.run?.report?.peaks;
  if (peaks) strips.forEach((one, i) => one.level(peaks[i], app.run?.report?.phase === "playing"));
  if (app.mode === "speakers") conversation.move();
  showPlayhead();
  drawn += 1;
  if (drawn % 8 === 0) showFigures(at("figures"), figures(app)); // four times a second: a figure must be readable
};

play.addEventListener("click", () => (play.textContent === "Pause" ? app.pause() : void app.play()));
stop.addEventListener("click", () => app.stop());
listen.addEventListener("click", () => app.setListening(!app.listening));
microphone.addEventListener("click", () => void app.microphone());
for (const one of into) {
  one.addEventListener("change", () => {
    app.into = one.value as Into;
    app.stop();
  });
}
model.addEventListener("change", () => {
  app.chosen = model.value || null;
  app.stop();
});
file.addEventListener("change", () => {
  const [chosen] = file.files ?? [];
  if (chosen) void app.load(chosen);
  file.value = ""; // so that the same file can be chosen again
});
seek.addEventListener("input", () => (seeking = true));
seek.addEventListener("change", () => {
  seeking = false;
  void app.seek(seek.valueAsNumber);
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"] as const) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  const [dropped] = event.dataTransfer?.files ?? [];
  if (dropped) void app.load(dropped);
});

function load(): void {
  app.failure = null;
  fetchModels(app.key.headers).then(offer).catch((error: unknown) => (app.failure = asFailure(error))).finally(show);
}

// A key that is added to the address of a page that is open already does not reload it.
addEventListener("hashchange", () => {
  if (app.key.take(location, history)) load();
});
app.key.take(location, history);
show();
load();
