// To take away: the stems and the mix as files.

import { field, make, write } from "../../ui/elements";
import { decibels, title } from "../../ui/text";
import { save } from "../../../client/export-zip";
import type { Karaoke } from "./karaoke";
import { FORMATS, type Format, mix, saveStems } from "./takeaway";

export class Away {
  readonly element = make("section", { class: "card", "aria-labelledby": "away-title" });
  private readonly format = make("select", { id: "format" });
  private readonly which = make("select", { id: "which" });
  private readonly stems = make("button", { type: "button" }, "Save stems");
  private readonly mix = make("button", { type: "button" }, "Save mix");
  private readonly note = make("p", { class: "quiet", role: "status" });
  private shown = "";
  private working = false;

  constructor(private readonly room: Karaoke, private readonly failed: (error: unknown) => void) {
    for (const [value, text] of Object.entries(FORMATS)) this.format.append(new Option(text, value));
    const files = make("div", { class: "row" });
    files.append(field("Format", this.format), field("Stems", this.which), this.stems, this.mix);
    this.element.append(make("h2", { id: "away-title" }, "Take it away"), files, this.note);
    this.stems.addEventListener("click", () => void this.work(async () => this.saveStems()));
    this.mix.addEventListener("click", () => void this.work(async () => this.saveMix()));
  }

  show(): void {
    const { deck, stems } = this.room;
    if (stems.join() !== this.shown) {
      this.shown = stems.join();
      this.which.replaceChildren(new Option("all, as a zip", ""), ...stems.map((stem) => new Option(title(stem), stem)));
    }
    const whole = deck?.cache?.complete ?? false;
    for (const button of [this.stems, this.mix]) button.disabled = !whole || this.working;
    const missing = deck?.whole ? "When all of the song is here." : "Only of songs that are short enough to be kept whole.";
    if (!this.working) write(this.note, whole || deck === null ? "" : missing);
  }

  private async saveStems(): Promise<string> {
    const { deck, stems } = this.room;
    const { value } = this.which;
    await saveStems(deck!, this.format.value as Format, value === "" ? stems : [value]);
    return "Saved.";
  }

  private async saveMix(): Promise<string> {
    const made = await mix(this.room.deck!, this.room.gains, this.format.value as Format);
    save(made);
    return made.quieter > 0 ? `Saved, ${decibels(-made.quieter)}: at full level it would have clipped.` : "Saved.";
  }

  private async work(task: () => Promise<string>): Promise<void> {
    this.working = true;
    write(this.note, "Writing…");
    this.show();
    try {
      const said = await task();
      this.working = false;
      this.show();
      write(this.note, said);
    } catch (error) {
      this.working = false;
      this.show();
      this.failed(error);
    }
  }
}
