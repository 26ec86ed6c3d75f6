// The live mix room: an input that never ends, taken apart while it comes, on a desk.

import "./live.css";
import { asFailure } from "../../../client/errors";
import { Keeper } from "../../debug";
import type { Open } from "../../shell";
import { field, make, write } from "../../ui/elements";
import { clock } from "../../ui/text";
import { Form, fill } from "./form";
import { type Row, row } from "./knobs";
import { Live } from "./live";
import { Obs } from "./obs";
import { snapshot } from "./snapshot";
import { status, vital } from "./status";

const RATE = 48_000;

export const open: Open = (host, shell) => {
  const live = new Live(shell);
  const form = new Form(shell);
  const obs = new Obs(shell.base);
  const keeper = new Keeper();
  const start = make("button", { type: "button", class: "primary", disabled: "" }, "Start");
  const pause = make("button", { type: "button", disabled: "" }, "Pause");
  const listen = make("button", { type: "button" }, "Listen");
  const time = make("span", { class: "time" }, "0:00");
  const told = make("p", { class: "quiet", role: "status", id: "live-status" });
  const desk = make("section", { class: "card", "aria-label": "Mix", hidden: "" });
  let rows: Row[] = [];
  let shown = "";
  let drawn = 0;

  const transport = make("section", { class: "card", "aria-label": "Session" });
  const buttons = make("div", { class: "transport" });
  buttons.append(start, pause, listen, time);
  const output = make("select", { id: "live-output" });
  fill(output, [], "Default output");
  output.disabled = !("setSinkId" in AudioContext.prototype);
  transport.append(buttons, told, field("Sound goes to", output));
  const head = make("div");
  head.append(make("h1", {}, "Live mix"), make("p", { class: "lead" }, "Play something in, and turn its parts up and down while it sounds."));
  host.append(head, form.element, transport, desk, obs.element);

  function showDesk(): void {
    const names = live.stream?.stems.map((stem) => stem.name) ?? [];
    if (names.length > 0 && names.join() !== shown) {
      shown = names.join();
      rows = names.map((name, i) => row(name, i, (change) => live.setKnobs(name, change)));
      desk.replaceChildren(...rows.map((one) => one.element));
      desk.hidden = false;
    }
    const soloing = names.some((name) => live.knobsOf(name).solo);
    names.forEach((name, i) => {
      const knobs = live.knobsOf(name);
      rows[i].show(knobs, live.listening && !knobs.mute && (knobs.solo || !soloing));
    });
  }

  function show(): void {
    const { phase, stream } = live;
    const busy = phase !== "idle";
    start.textContent = busy ? "Stop" : "Start";
    start.disabled = form.wish === null;
    pause.disabled = stream === null;
    pause.textContent = phase === "paused" ? "Go on" : "Pause";
    listen.ariaPressed = String(live.listening);
    form.element.toggleAttribute("inert", busy);
    write(told, status(live, form.wish));
    showDesk();
    obs.show(form.wish && { ...form.wish, stems: form.sources }, stream?.ready.session ?? null, stream?.ready.stems ?? []);
    shell.vital(vital(live));
  }

  function progress(): void {
    const { stream } = live;
    if (stream === null) return;
    const moving = !stream.paused && stream.position > 0;
    stream.stems.forEach((stem, i) => rows[i]?.level(stem.level, moving));
    write(time, clock(stream.position / RATE));
    drawn += 1;
    if (drawn % 8 !== 0) return; // four times a second: a figure must be readable
    write(told, status(live, form.wish));
    shell.vital(vital(live));
  }

  live.onchange = show;
  live.onprogress = progress;
  live.onstems = (chunk) => keeper.take(chunk);
  form.onchange = show;
  form.onoutputs = (list) => fill(output, list, "Default output");
  output.addEventListener("change", () => void shell.setOutputDevice(output.value).catch((error: unknown) => shell.fail(asFailure(error))));
  start.addEventListener("click", () => {
    if (live.phase !== "idle") return live.stop();
    if (form.wish) void live.start(form.wish).then(() => form.list());
  });
  pause.addEventListener("click", () => live.setPaused(live.phase !== "paused"));
  listen.addEventListener("click", () => live.setListening(!live.listening));
  const look = setInterval(() => form.show(), 5000); // what the machine can do changes
  form.offer(shell.models);
  void form.list();
  show();

  return {
    onmodels() {
      form.offer(shell.models);
      show();
    },
    leave() {
      clearInterval(look);
      form.close();
      live.stop();
    },
    state: () => snapshot(live, form.wish),
    debug: {
      keep: () => keeper.keep(() => live.stream?.ready.stems ?? []),
      mark: () => live.stream?.mark() ?? Promise.reject(new Error("no session is open")),
      stream: () => live.stream,
    },
  };
};
