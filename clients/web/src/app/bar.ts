// What is always visible at the foot of the page: what went wrong and what to do, the connection, and how late it all is.

import type { Failure } from "../client/errors";
import { type Capacity, load } from "./capacity";
import type { Vital } from "./shell";
import { make, write } from "./ui/elements";
import { ms, percent } from "./ui/text";

const FIGURES = [
  ["declared", "Promised", "What the server promised for this session, its computing included"],
  ["measured", "Measured", "Live: from a sample's capture to the arrival of its stems, median of late"],
  ["ear", "To ear", "From capture to your ear, with the buffer and the output device"],
  ["server", "Server", "How busy the server is: the busiest of its parts"],
] as const;

export class Bar {
  vital: Vital = { declared: null, measured: null, ear: null, network: "", compute: null };
  private failure: Failure | null = null;
  private readonly values = new Map<string, HTMLElement>();
  private readonly error = make("p", { class: "error", role: "alert", hidden: "" });
  private readonly told = make("span");
  private readonly said = make("p", { class: "notice", role: "status", hidden: "" });
  private readonly link = make("p", { class: "link", role: "status" });

  constructor(private readonly host: HTMLElement) {
    const shut = make("button", { type: "button", class: "plain", "aria-label": "Dismiss" }, "×");
    shut.addEventListener("click", () => this.fail(null));
    this.error.append(this.told, shut);
    const figures = make("dl", { class: "vitals" });
    for (const [name, label, title] of FIGURES) {
      const one = figures.appendChild(make("div", { title }));
      one.append(make("dt", {}, label));
      this.values.set(name, one.appendChild(make("dd", {}, "–")));
    }
    const row = make("div", { class: "bar-row" });
    row.append(this.link, figures);
    host.append(this.error, this.said, row);
    this.connection(null, null);
  }

  tell(now: Partial<Vital>): void {
    Object.assign(this.vital, now);
    for (const name of ["declared", "measured", "ear"] as const) write(this.values.get(name)!, ms(this.vital[name]));
  }

  fail(failure: Failure | null): void {
    this.failure = failure;
    this.error.hidden = failure === null;
    write(this.told, failure === null ? "" : `${failure.message} ${failure.advice}`);
  }

  get failed(): Failure | null {
    return this.failure;
  }

  notice(text: string): void {
    this.said.hidden = text === "";
    write(this.said, text);
  }

  /** `reached`: whether the server answers; null: nobody knows yet. */
  connection(reached: boolean | null, capacity: Capacity | null): void {
    const { network } = this.vital;
    const state = network !== "" ? "warn" : reached === null ? "wait" : reached ? "good" : "bad";
    this.host.dataset.link = state;
    const calm = reached === null ? "Looking for the server…" : reached ? "Server reached" : "The server does not answer";
    write(this.link, network || calm);
    const own = this.vital.compute === null ? "" : `; this session takes ${percent(this.vital.compute)}`;
    const value = this.values.get("server")!;
    write(value, capacity === null ? "–" : percent(load(capacity)));
    value.title = capacity === null ? "" : `${capacity.sessions} sessions are inside${own}`;
  }
}
