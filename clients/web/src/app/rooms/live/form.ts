// What is chosen before a session: input, device, transport, model and how late it may be.

import { type Device, devices } from "../../../client/microphone";
import type { Model } from "../../../client/models";
import { hasWebRTC } from "../../../client/peer-call";
import type { TransportName } from "../../../client/stream";
import type { Capacity } from "../../capacity";
import type { Shell } from "../../shell";
import { field, make, write } from "../../ui/elements";
import { ms } from "../../ui/text";
import { account, label, offered, reach } from "./dial";
import type { Kind, Wish } from "./live";

const KINDS: [Kind, string][] = [["line", "Line input, stereo"], ["microphone", "Microphone"], ["tab", "Tab or system sound"]];
const TRANSPORTS: [TransportName, string][] = [["websocket", "WebSocket"], ["webrtc", "WebRTC"]];
const NOTES: Record<TransportName, string> = {
  websocket: "Untouched samples, all stems on one clock; a lost connection is made good.",
  webrtc: "Opus over UDP: steadier where packets are lost, and later by the browser's jitter buffers; a lost connection goes on with a new session.",
};

const CHOICE = "The browser's choice";
const NO_WEBRTC = " This browser has no WebRTC: open the page in Chrome, Edge, Firefox or Safari to use it.";

export class Form {
  readonly element = make("section", { class: "card", "aria-label": "Input" });
  onchange = (): void => {};
  onoutputs = (_: readonly Device[]): void => {};
  private readonly kind = choices("Input", "live-kind", KINDS);
  private readonly transport = choices("Over", "live-transport", TRANSPORTS);
  private readonly device = make("select", { id: "live-device" });
  private readonly model = make("select", { id: "live-model" });
  private readonly late = make("input", { type: "range", id: "live-latency", "aria-describedby": "live-account" });
  private readonly lateness = make("output", { class: "value", for: "live-latency" });
  private readonly dial = make("div", { class: "field dial" });
  private readonly note = make("p", { class: "quiet" });
  private readonly told = make("p", { class: "quiet", id: "live-account", role: "status" });
  private models: Model[] = [];

  constructor(private readonly shell: Shell) {
    const grid = make("div", { class: "grid" });
    const ends = make("div", { class: "ends quiet" });
    ends.append(make("span", { "aria-hidden": "true" }, "sooner"), this.lateness, make("span", { "aria-hidden": "true" }, "cleaner"));
    this.dial.append(make("label", { for: "live-latency" }, "Latency against quality"), this.late, ends);
    grid.append(field("Device", this.device), field("Model", this.model), this.dial);
    const row = make("div", { class: "row" });
    row.append(this.kind.element, this.transport.element);
    this.element.append(row, this.note, grid, this.told);
    this.model.disabled = true;
    fill(this.device, [], CHOICE); // some browsers take a second to list what there is
    if (!hasWebRTC()) this.transport.withhold("webrtc");
    this.kind.onchange = this.transport.onchange = () => this.chosen();
    this.device.addEventListener("change", () => this.onchange());
    this.model.addEventListener("change", () => this.reset());
    this.late.addEventListener("input", () => this.show());
    this.late.addEventListener("change", () => this.onchange());
    navigator.mediaDevices?.addEventListener("devicechange", this.list);
    this.show();
  }

  /** What the chosen model gives. */
  get sources(): readonly string[] {
    return this.choice?.sources ?? [];
  }

  /** As it stands; null while there is no model to choose. */
  get wish(): Wish | null {
    const model = this.choice;
    if (model === undefined) return null;
    return { kind: this.kind.value, device: this.device.value, transport: this.transport.value, model: model.name, latency: this.latency };
  }

  offer(models: readonly Model[]): void {
    const before = this.model.value;
    this.models = offered(models);
    this.model.replaceChildren(...this.models.map((one) => new Option(label(one), one.name)));
    if (this.models.some((one) => one.name === before)) this.model.value = before;
    this.model.disabled = this.models.length === 0;
    if (before === "") this.reset();
    this.show();
  }

  /** Names are told only after an input was allowed: asked again then. */
  readonly list = async (): Promise<void> => {
    const { inputs, outputs } = await devices();
    fill(this.device, inputs, CHOICE);
    this.onoutputs(outputs);
    this.show();
  };

  close(): void {
    navigator.mediaDevices?.removeEventListener("devicechange", this.list);
  }

  show(capacity: Capacity | null = this.shell.capacity): void {
    const { kind, choice } = this;
    const range = reach(choice);
    this.dial.hidden = range === null;
    this.device.disabled = kind.value === "tab";
    write(this.lateness, ms(this.late.valueAsNumber));
    this.late.setAttribute("aria-valuetext", ms(this.late.valueAsNumber));
    write(this.note, NOTES[this.transport.value] + (hasWebRTC() ? "" : NO_WEBRTC));
    write(this.told, account(choice, this.latency, capacity));
  }

  private get choice(): Model | undefined {
    return this.models.find((one) => one.name === this.model.value);
  }

  private get latency(): number | null {
    const range = reach(this.choice);
    return range === null || this.late.valueAsNumber >= range.most ? null : this.late.valueAsNumber;
  }

  private reset(): void {
    const range = reach(this.choice);
    if (range) {
      Object.assign(this.late, { min: String(range.least), max: String(range.most), step: "any" });
      this.late.value = String(range.most);
      this.late.step = String(range.step);
    }
    this.chosen();
  }

  private chosen(): void {
    this.show();
    this.onchange();
  }
}

export function fill(select: HTMLSelectElement, list: readonly Device[], none: string): void {
  const before = select.value;
  const named = list.filter(({ id }) => id !== "default" && id !== "communications");
  select.replaceChildren(new Option(none, ""), ...named.map(({ id, name }) => new Option(name, id)));
  if (list.some(({ id }) => id === before)) select.value = before;
}

interface Choices<T> {
  element: HTMLElement;
  value: T;
  onchange: () => void;
  withhold(value: T): void; // it cannot be chosen
}

function choices<T extends string>(title: string, name: string, options: readonly [T, string][]): Choices<T> {
  const element = make("fieldset");
  const box = make("span", { class: "choices" });
  const inputs = new Map<T, HTMLInputElement>();
  const made: Choices<T> = { element, value: options[0][0], onchange: () => {}, withhold: (value) => (inputs.get(value)!.disabled = true) };
  for (const [value, text] of options) {
    const one = make("label");
    const input = make("input", { type: "radio", name, value });
    input.checked = value === made.value;
    inputs.set(value, input);
    input.addEventListener("change", () => {
      made.value = value;
      made.onchange();
    });
    one.append(input, make("span", {}, text));
    box.append(one);
  }
  element.append(make("legend", {}, title), box);
  return made;
}
