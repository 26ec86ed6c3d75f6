// The meeting room: everybody gets a lane, and it is told who speaks when, while they speak.

import "./meeting.css";
import { asFailure } from "../../../client/errors";
import { type Open, type Room, type Shell } from "../../shell";
import { make, write } from "../../ui/elements";
import { Form } from "./form";
import { Lanes } from "./lanes";
import { List } from "./list";
import { Meeting } from "./meeting";
import { KINDS, saveAll, saveTrack, saveTurns } from "./save";
import { snapshot } from "./snapshot";
import { Sources } from "./sources";
import { Transport } from "./transport";

const away = (meeting: Meeting): string =>
  meeting.away ? `The connection was lost: reconnecting… ${meeting.live ? "What is said meanwhile is kept, and sent then." : ""}`.trim() : "";

const called = ({ origin, name }: Meeting): string =>
  origin === "recording" ? name.replace(/\.[^.]{1,5}$/, "") : origin === "tab" ? "A tab" : "The microphone";

export const open: Open = (host: HTMLElement, shell: Shell): Room => {
  const meeting = new Meeting(shell);
  const failed = (error: unknown): void => shell.fail(asFailure(error));
  const sources = new Sources(meeting, shell.base, failed);
  const form = new Form(meeting.options, (options) => (meeting.options = options), (keep) => (meeting.keeping = keep));
  const transport = new Transport(meeting);
  const lanes = new Lanes(meeting, (speaker) => saveTrack(meeting, speaker));
  const list = new List(meeting);
  const [foot, saves] = footer(meeting, failed);

  const head = make("div");
  head.append(make("h1", {}, "Who said that?"), make("p", { class: "lead" }, "A live track for everybody in the room, and who speaks when, while they speak."));
  sources.element.append(form.element);
  const card = make("section", { class: "card", "aria-label": "The conversation" });
  const title = make("h2");
  card.append(title, transport.element, lanes.element, foot, list.element);
  host.append(head, sources.element, card);

  let book = meeting.tracks;
  const show = (): void => {
    if (book !== meeting.tracks) {
      book = meeting.tracks;
      lanes.clear();
      list.clear();
    }
    sources.show();
    write(title, called(meeting));
    transport.show();
    lanes.show();
    list.show();
    card.hidden = meeting.phase === "idle";
    for (const save of saves) save.disabled = meeting.book.turns.length === 0;
    saves.at(-1)!.disabled = meeting.tracks.end === meeting.tracks.from;
    tell(meeting, shell);
  };
  let moves = 0;
  meeting.onchange = show;
  meeting.onmove = () => {
    transport.move();
    lanes.move();
    const report = meeting.playing.replay?.report;
    lanes.levels(report ? (report.phase === "playing" ? report.peaks : null) : (meeting.line?.peaks ?? null));
    if (moves++ % 8 === 0) tell(meeting, shell); // four times a second: a figure must be readable
  };
  show();

  return {
    onmodels: () => form.offer(shell.models),
    leave() {
      meeting.onchange = meeting.onmove = () => {};
      meeting.close();
      lanes.leave();
    },
    state: () => snapshot(meeting),
    debug: {
      keep: () => meeting.keeper.keep(() => meeting.stems),
      mark: () => meeting.line?.mark() ?? Promise.reject(new Error("no session is open")),
    },
  };
};

/** The bar: what was promised and measured. A recording is sent in haste, so its lag says nothing. */
function tell(meeting: Meeting, shell: Shell): void {
  const { line, live, open: now } = meeting;
  const figures = live && now ? line?.figures : undefined;
  const measured = figures?.arrival ?? figures?.turn ?? null;
  shell.vital({ declared: now ? (meeting.ready?.latency_ms ?? null) : null, measured, ear: figures?.ear ?? null, network: away(meeting) });
}

function footer(meeting: Meeting, failed: (error: unknown) => void): [HTMLElement, HTMLButtonElement[]] {
  const foot = make("div", { class: "row foot" });
  const saves = KINDS.map((kind) => {
    const button = make("button", { type: "button", class: "toggle", "aria-label": `Save the turns as ${kind}` }, kind);
    button.addEventListener("click", () => saveTurns(meeting, kind));
    return button;
  });
  const all = make("button", { type: "button", class: "toggle", "aria-label": "Save all tracks and turns as a zip" }, "All tracks");
  all.addEventListener("click", () => void saveAll(meeting).catch(failed));
  foot.append(make("span", { class: "quiet" }, "Save"), ...saves, all);
  return [foot, [...saves, all]];
}

