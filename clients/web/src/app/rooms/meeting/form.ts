// The options of a meeting as a form: used with the next thing that is heard.

import type { Model } from "../../../client/models";
import { hasWebRTC } from "../../../client/peer-call";
import { make } from "../../ui/elements";
import { type Options, USUAL, musician, talkers } from "./options";

const PEOPLE = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const WAITS = [[0, "As soon as it can"], [0.5, "0.5 s more"], [1, "1 s more"], [2, "2 s more"]] as const;

export class Form {
  readonly element = make("details", { class: "more options" });
  private readonly model = make("select", { id: "meeting-model" });
  private readonly max = make("select", { id: "meeting-max" });
  private readonly buffer = make("select", { id: "meeting-buffer" });
  private readonly transport = make("select", { id: "meeting-transport" });
  private readonly diarizer = make("input", { id: "meeting-diarizer", type: "text", placeholder: "the server's own", autocomplete: "off", spellcheck: "false" });
  private readonly exclusive = make("input", { id: "meeting-exclusive", type: "checkbox" });
  private readonly music = make("input", { id: "meeting-music", type: "checkbox" });
  private readonly keep = make("input", { id: "meeting-keep", type: "checkbox" });
  private readonly musical = check(this.music, "Take music out first", "For talk over music: slower, and people are told apart better.");
  private readonly modes = choices("meeting-mode", [["speakers", "A track for everybody"], ["diarize", "Only who speaks when"]]);

  constructor(private options: Options, change: (options: Options) => void, keep: (keep: boolean) => void) {
    for (const people of PEOPLE) this.max.append(new Option(people === 0 ? "As many as usual" : String(people), String(people)));
    for (const [seconds, text] of WAITS) this.buffer.append(new Option(text, String(seconds)));
    this.transport.append(new Option("WebSocket", "websocket"), new Option(hasWebRTC() ? "WebRTC" : "WebRTC: not in this browser", "webrtc"));
    this.transport.options[1].disabled = !hasWebRTC();
    this.keep.checked = true;
    const fields = make("div", { class: "grid" });
    fields.append(
      field("Most people", this.max, "Voices beyond so many have no track."),
      field("Wait to decide", this.buffer, "Overlaps are routed better; everything is later."),
      field("Model", this.model, "What takes overlapping voices apart."),
      field("Carried by", this.transport, "Live: WebRTC rides out bad networks, but keeps no tracks here."),
      field("Diarizer", this.diarizer, "A name, or name@profile, that this server knows."),
    );
    const checks = make("div", { class: "grid" });
    checks.append(
      check(this.exclusive, "One person at a time", "Each moment belongs to one of them, for transcripts."),
      this.musical,
      check(this.keep, "Keep what is said in this page", "To play it again and save the tracks; up to 600 MB, then the oldest goes."),
    );
    this.element.append(make("summary", {}, "Options"), this.modes, fields, checks);
    this.element.addEventListener("input", () => {
      this.options = this.read();
      change(this.options);
    });
    this.keep.addEventListener("change", () => keep(this.keep.checked));
    this.offer([]);
  }

  /** What the server has. */
  offer(models: readonly Model[]): void {
    const chosen = this.model.value;
    this.model.replaceChildren(new Option("What suits", ""), ...talkers(models).map(({ name }) => new Option(name, name)));
    this.model.value = chosen;
    this.musical.hidden = musician(models) === undefined;
  }

  private read(): Options {
    const mode = this.modes.querySelector<HTMLInputElement>("input:checked")?.value === "diarize" ? "diarize" : "speakers";
    return {
      ...USUAL, mode, model: this.model.value, max: Number(this.max.value), exclusive: this.exclusive.checked,
      buffer_s: Number(this.buffer.value), music: this.music.checked && !this.musical.hidden, diarizer: this.diarizer.value.trim(),
      transport: this.transport.value === "webrtc" ? "webrtc" : "websocket",
    };
  }
}

function field(text: string, control: HTMLElement, note: string): HTMLElement {
  const all = make("div", { class: "field" });
  const id = `${control.id}-note`;
  control.setAttribute("aria-describedby", id);
  all.append(make("label", { for: control.id }, text), control, make("span", { class: "quiet", id }, note));
  return all;
}

function check(control: HTMLInputElement, text: string, note: string): HTMLElement {
  const all = make("label", { class: "check" });
  const words = make("span", {}, text);
  words.append(make("br"), make("span", { class: "quiet" }, note));
  all.append(control, words);
  return all;
}

function choices(name: string, values: readonly (readonly [string, string])[]): HTMLElement {
  const set = make("fieldset");
  const all = make("span", { class: "choices" });
  values.forEach(([value, text], i) => {
    const label = make("label");
    const radio = make("input", { type: "radio", name, value, ...(i === 0 && { checked: "" }) });
    label.append(radio, make("span", {}, text));
    all.append(label);
  });
  set.append(make("legend", {}, "Tell"), all);
  return set;
}
