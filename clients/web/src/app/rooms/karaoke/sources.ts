// Where a song comes from: a file, the one that comes along, or a recording of a microphone or a tab. And which model takes it apart.

import type { Model } from "../../../client/models";
import { field, make, write } from "../../ui/elements";
import { clock } from "../../ui/text";
import type { Karaoke } from "./karaoke";

const ICONS = {
  song: "M9 18V5l11-2v13M9 18a3 3 0 1 1-3-3 3 3 0 0 1 3 3ZM20 16a3 3 0 1 1-3-3 3 3 0 0 1 3 3Z",
  microphone: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3ZM5 11a7 7 0 0 0 14 0M12 18v3",
  tab: "M3 6.5A1.5 1.5 0 0 1 4.5 5h15A1.5 1.5 0 0 1 21 6.5v11a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5ZM3 9.5h18M10 12.5v4l4-2Z",
};

export class Sources {
  readonly element = make("section", { class: "card", "aria-label": "Choose a song" });
  private readonly file = make("input", {
    type: "file", id: "file", class: "unseen", accept: "audio/*,video/*", "aria-describedby": "drop-hint",
  });
  private readonly drop = make("label", { class: "drop" });
  private readonly name = make("strong", {}, "Choose a song");
  private readonly hint = make("span", { class: "quiet", id: "drop-hint" }, "or drop or paste one anywhere: sound or video");
  private readonly demo = button("Try a song", ICONS.song);
  private readonly microphone = button("Record microphone", ICONS.microphone);
  private readonly tab = button("Record a tab", ICONS.tab);
  private readonly model = make("select", { id: "model", disabled: "" });
  private readonly recording = make("div", { class: "row message", role: "status", hidden: "" });
  private readonly seconds = make("span", { class: "figures" });
  private timer: ReturnType<typeof setInterval>;

  constructor(private readonly room: Karaoke) {
    this.drop.append(this.file, this.name, this.hint);
    const sources = make("div", { class: "row sources" });
    sources.append(this.drop, this.demo, this.microphone, this.tab);
    const stop = make("button", { type: "button", class: "primary" }, "Stop and separate");
    this.recording.append(make("span", { class: "dot", "aria-hidden": "true" }), this.seconds, stop);
    this.element.append(sources, this.recording, field("Taken apart by", this.model));
    this.file.addEventListener("change", () => {
      const [chosen] = this.file.files ?? [];
      if (chosen) void room.load(chosen);
      this.file.value = ""; // so that the same file can be chosen again
    });
    this.demo.addEventListener("click", () => void room.demo());
    this.microphone.addEventListener("click", () => void room.record("microphone"));
    this.tab.addEventListener("click", () => void room.record("tab"));
    stop.addEventListener("click", () => room.recorded());
    this.model.addEventListener("change", () => room.setModel(this.model.value || null));
    document.addEventListener("dragover", this.over);
    document.addEventListener("dragleave", this.out);
    document.addEventListener("drop", this.dropped);
    document.addEventListener("paste", this.pasted);
    this.timer = setInterval(() => this.tick(), 250);
  }

  offer(models: readonly Model[]): void {
    const chosen = this.model.value;
    this.model.replaceChildren(new Option("what suits songs", ""));
    for (const one of models.filter(({ interchangeable }) => !interchangeable)) {
      const sources = one.sources.join(", ").replaceAll("_", " ");
      this.model.append(new Option(`${one.name}: ${sources}${one.present ? "" : " (to be fetched)"}`, one.name));
    }
    this.model.value = chosen;
    this.model.disabled = false;
  }

  show(): void {
    const { busy, song, recorder } = this.room;
    write(this.name, busy || song?.name || "Choose a song");
    this.element.classList.toggle("small", song !== null && recorder === null);
    for (const one of [this.demo, this.microphone, this.tab]) one.disabled = recorder !== null;
    this.recording.hidden = recorder === null;
    this.tick();
  }

  close(): void {
    clearInterval(this.timer);
    document.removeEventListener("dragover", this.over);
    document.removeEventListener("dragleave", this.out);
    document.removeEventListener("drop", this.dropped);
    document.removeEventListener("paste", this.pasted);
  }

  private tick(): void {
    const { recorder } = this.room;
    if (recorder) write(this.seconds, `Recording: ${clock(recorder.seconds)}`);
  }

  private readonly over = (): void => void this.drop.classList.add("over");

  private readonly out = (): void => this.drop.classList.remove("over");

  private readonly dropped = (event: DragEvent): void => {
    event.preventDefault();
    this.out();
    this.take(event.dataTransfer);
  };

  private readonly pasted = (event: ClipboardEvent): void => this.take(event.clipboardData);

  private take(data: DataTransfer | null): void {
    const [file] = data?.files ?? [];
    if (file) void this.room.load(file);
  }
}

function button(text: string, icon: string): HTMLButtonElement {
  const made = make("button", { type: "button", class: "big" });
  made.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${icon}" /></svg>`;
  made.append(text);
  return made;
}
