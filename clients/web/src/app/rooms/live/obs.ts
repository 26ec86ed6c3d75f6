// Sound from elsewhere: the WHIP address for OBS and its like, and the WHEP addresses where what comes of it can be heard.

import { below } from "../../../client/address";
import { make, write } from "../../ui/elements";
import { title } from "../../ui/text";

const STEPS = [
  "In OBS, open Settings, Stream, and choose the service WHIP.",
  "Paste this address as Server. As Bearer Token, the key that you have for this server; none, if it asks for none.",
  "Under Output, Audio, choose Opus. A picture is not needed, and is not taken.",
  "Start Streaming: OBS sends, and the server separates.",
];

export interface Asked {
  model: string;
  latency: number | null; // ms
  stems: readonly string[];
}

/** A session that nobody needs to hear: whoever sends there brings the sound. `name`: what it can be listened to by. */
export function whipAddress(base: URL, { model, latency }: Omit<Asked, "stems">, name: string): string {
  const url = below(base, "whip");
  url.searchParams.set("model", model);
  if (latency !== null) url.searchParams.set("latency_ms", String(latency));
  url.searchParams.set("name", name);
  return url.href;
}

/** Where the outputs of a session, by its id or name, can be heard: all of them, a track each; their sum; one. */
export function whepAddresses(base: URL, session: string, stems: readonly string[]): [name: string, address: string][] {
  const whole = below(base, `whep/${encodeURIComponent(session)}`).href;
  const of = (stem: string): string => `${whole}?stem=${encodeURIComponent(stem)}`;
  return [["All, a track each", whole], ["The mix", of("mix")], ...stems.map((stem): [string, string] => [title(stem), of(stem)])];
}

/** 128 bits that nobody guesses: who knows the name, and has a key of the same owner, hears the session. */
export const freshName = (): string => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Obs {
  readonly element = make("details", { class: "card more", id: "live-obs" });
  private readonly name = freshName();
  private readonly address = make("input", { type: "text", readonly: "", id: "live-whip", "aria-label": "WHIP address" });
  private readonly heard = make("div");
  private readonly note = make("p", { class: "quiet" });
  private shown = "";

  constructor(private readonly base: URL) {
    const steps = make("ol", { class: "steps" });
    steps.append(...STEPS.map((text) => make("li", {}, text)));
    this.element.append(make("summary", {}, "Send from OBS, listen elsewhere"), line(this.address), this.note, steps, this.heard);
  }

  /** `session`: what plays in this room, if anything does. */
  show(asked: Asked | null, session: string | null, stems: readonly string[]): void {
    this.address.value = asked === null ? "" : whipAddress(this.base, asked, this.name);
    write(this.note, asked === null ? "" : `With the model that is chosen above: ${asked.model}.`);
    const now = JSON.stringify([asked?.stems, session, stems]);
    if (now === this.shown) return;
    this.shown = now;
    this.heard.replaceChildren(...(asked ? this.list("What OBS sends is heard at (WHEP)", this.name, asked.stems) : []));
    if (session !== null) this.heard.append(...this.list("What plays here is heard at", session, stems));
  }

  private list(text: string, session: string, stems: readonly string[]): HTMLElement[] {
    const list = make("ul", { class: "addresses" });
    for (const [name, address] of whepAddresses(this.base, session, stems)) {
      const item = make("li");
      item.append(make("span", {}, name), line(make("input", { type: "text", readonly: "", value: address, "aria-label": `${name}: WHEP address` })));
      list.append(item);
    }
    return [make("h3", {}, text), list];
  }
}

/** An address and what copies it. */
function line(address: HTMLInputElement): HTMLElement {
  const made = make("div", { class: "address" });
  const copy = make("button", { type: "button", "aria-label": `Copy the ${address.ariaLabel}` }, "Copy");
  copy.addEventListener("click", () => {
    address.select();
    const copied = (): void => {
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    };
    void navigator.clipboard?.writeText(address.value).then(copied, () => {}); // not allowed: selected, to be copied by hand
  });
  address.addEventListener("focus", () => address.select());
  made.append(address, copy);
  return made;
}
