// Where the sound of a meeting comes from: a recording, a microphone, a tab, or the scene that comes along.

import { make } from "../../ui/elements";
import { devices, microphone, tabAudio } from "../../../client/microphone";
import type { Meeting } from "./meeting";

export const SCENE = "demo/scene.ogg";

const ICONS = {
  microphone: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3ZM5 11a7 7 0 0 0 14 0M12 18v3",
  tab: "M3 6.5A1.5 1.5 0 0 1 4.5 5h15A1.5 1.5 0 0 1 21 6.5v11a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5ZM3 9.5h18M10 12.5v4l4-2Z",
  scene: "M4 6h10v7H8l-4 3ZM17 9h3v9l-3-2.5h-6V15",
};

export class Sources {
  readonly element = make("section", { class: "card sources-card", "aria-labelledby": "meeting-source" });
  private readonly device = make("select");
  private readonly microphone = big("Microphone", ICONS.microphone);
  private readonly file = make("input", { type: "file", class: "unseen", id: "meeting-file", accept: "audio/*,video/*" });
  private readonly drop = make("label", { class: "drop" });

  constructor(private readonly meeting: Meeting, base: URL, failed: (error: unknown) => void) {
    const [tab, scene] = [big("Tab audio", ICONS.tab), big("Try a scene", ICONS.scene)];
    this.drop.append(this.file, make("strong", {}, "A recording"), make("span", { class: "quiet" }, "Choose or drop one here; sound or video"));
    const row = make("div", { class: "row sources" });
    row.append(this.microphone, tab, this.drop, scene);
    const input = make("label", { class: "input quiet", hidden: "" }, "Microphone ");
    input.append(this.device);
    this.element.append(make("h2", { id: "meeting-source" }, "What shall be heard?"), row, input);

    this.microphone.addEventListener("click", () => void meeting.listen("microphone", async () => {
      const sound = await microphone({ device: this.device.value });
      void this.list(); // browsers tell names only now
      return sound;
    }));
    tab.addEventListener("click", () => void meeting.listen("tab", tabAudio));
    scene.addEventListener("click", () => void this.demo(new URL(SCENE, base)).catch(failed));
    this.file.addEventListener("change", () => this.take(this.file.files));
    this.drop.addEventListener("drop", (event) => this.take(event.dataTransfer?.files ?? null));
    for (const name of ["dragenter", "dragover", "dragleave", "drop"] as const) {
      this.drop.addEventListener(name, () => this.drop.classList.toggle("over", name === "dragenter" || name === "dragover"));
    }
    void this.list();
  }

  show(): void {
    const { meeting } = this;
    this.element.classList.toggle("compact", meeting.phase !== "idle");
    this.microphone.ariaPressed = String(meeting.origin === "microphone" && meeting.open);
  }

  private take(files: FileList | null): void {
    const [chosen] = files ?? [];
    if (chosen) void this.meeting.load(chosen);
    this.file.value = ""; // so that the same file can be chosen again
  }

  private async demo(url: URL): Promise<void> {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`the scene is not there (HTTP ${answer.status})`);
    await this.meeting.load(new File([await answer.blob()], "Two by the river.ogg"), true);
  }

  private async list(): Promise<void> {
    const { inputs } = await devices();
    const named = inputs.filter(({ name }) => name !== "Unnamed");
    const chosen = this.device.value;
    this.device.replaceChildren(new Option("Usual microphone", ""), ...named.map(({ id, name }) => new Option(name, id)));
    this.device.value = named.some(({ id }) => id === chosen) ? chosen : "";
    this.device.parentElement!.hidden = named.length < 2;
  }
}

function big(text: string, icon: string): HTMLButtonElement {
  const button = make("button", { type: "button", class: "big" });
  button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${icon}" /></svg>`;
  button.append(text);
  return button;
}
