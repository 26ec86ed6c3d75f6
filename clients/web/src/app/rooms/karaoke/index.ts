// The karaoke and practice room: a song taken apart, its parts as faders, again and again.

import "./karaoke.css";
import { asFailure } from "../../../client/errors";
import type { Interval } from "../../../client/song-intervals";
import type { SongReport } from "../../../client/song-messages";
import type { Open, Room, Shell } from "../../shell";
import { make } from "../../ui/elements";
import { Desk } from "./desk";
import { Film } from "./film";
import { type Command, HELP, Keys, taken } from "./keys";
import { Karaoke } from "./karaoke";
import { Picture } from "./picture";
import { snapshot } from "./snapshot";
import { Sources } from "./sources";
import { FASTEST, SLOWEST, Transport } from "./transport";
import { Away } from "./away";

const LEAD = "A song taken apart while it plays: turn the voice down and sing, or one instrument and play it.";

/** The elements of the room, and when they are shown anew. */
class View {
  readonly film = new Film(make("video", { class: "film", "aria-label": "The video of the song, silent", hidden: "" }));
  readonly desk: Desk;
  readonly sources: Sources;
  private readonly help = keyList();
  private readonly away: Away;
  private readonly transport: Transport;
  private readonly picture: Picture;
  private readonly deck = make("section", { class: "card", "aria-label": "Playback" });
  private readonly more = make("div", { class: "pair" });
  private readonly keys = new Keys();
  private readonly stop: () => void;
  private reports = 0;

  constructor(private readonly room: Karaoke, host: HTMLElement) {
    this.desk = new Desk(room);
    this.away = new Away(room, (error) => room.shell.fail(asFailure(error)));
    this.sources = new Sources(room);
    this.transport = new Transport(room);
    this.picture = new Picture(room);
    const head = make("div");
    head.append(make("h1", {}, "Sing it. Play it. Loop it."), make("p", { class: "lead" }, LEAD));
    this.deck.append(this.film.element, this.transport.element, this.desk.element);
    this.more.append(this.picture.element, this.away.element);
    host.append(head, this.sources.element, this.deck, this.more, this.help);
    room.onchange = () => this.show();
    room.onsong = () => this.load();
    room.ongrown = () => this.grow();
    room.onmove = (report) => this.move(report);
    this.stop = every(() => this.step());
    document.addEventListener("keydown", this.press);
    this.show();
  }

  close(): void {
    const { room } = this;
    this.stop();
    document.removeEventListener("keydown", this.press);
    room.onchange = room.onsong = room.ongrown = room.onmove = () => {};
    for (const part of [this.sources, this.transport, this.desk, this.film]) part.close();
  }

  private show(): void {
    for (const part of [this.sources, this.transport, this.desk, this.picture, this.away]) part.show();
    this.deck.hidden = this.more.hidden = this.room.song === null;
    tell(this.room);
  }

  /** Another song. */
  private load(): void {
    for (const part of [this.transport, this.desk, this.picture]) part.load();
    this.film.load(this.room.file);
    this.deck.hidden = this.room.song === null;
    if (this.sources.element.contains(document.activeElement)) this.transport.focus(); // Space plays
  }

  private grow(): void {
    this.desk.grow();
    this.transport.move();
  }

  private move(report: SongReport): void {
    this.transport.move();
    this.desk.levels(report.phase === "playing" ? report.peaks : null);
    if (this.reports++ % 8 === 0) tell(this.room); // four times a second: a figure must be readable
  }

  /** Once a frame. */
  private step(): void {
    const { deck } = this.room;
    if (deck === null) return;
    const sounding = deck.playing && deck.player?.report?.phase === "playing";
    this.desk.move(deck.ear);
    this.film.follow(deck.ear / deck.song.rate, sounding, deck.stretch.rate);
    if (sounding) this.picture.step();
  }

  private readonly press = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || taken(document.activeElement, event.key)) return;
    const command = this.keys.press(event);
    if (command === null) return;
    event.preventDefault();
    obey(this.room, command, this.help);
  };
}

export const open: Open = (host: HTMLElement, shell: Shell): Room => {
  const room = new Karaoke(shell);
  const view = new View(room, host);
  return {
    onmodels() {
      view.sources.offer(shell.models);
      room.begin();
    },
    leave() {
      view.close();
      room.close();
    },
    state: () => snapshot(room, view.film),
    debug: {
      /** What is kept: `{name: planes}`. */
      stems: () => view.desk.whole(),
      /** `{start, end}` in samples, or null. */
      loop: (loop: Interval | null) => room.deck?.setLoop(loop),
    },
  };
};

function obey(room: Karaoke, command: Command, help: HTMLDetailsElement): void {
  const { deck } = room;
  if (command.do === "help") help.open = !help.open;
  if (deck === null) return;
  const stem = "stem" in command ? room.stems[command.stem] : undefined;
  if (command.do === "play") void room.toggle();
  else if (command.do === "start") deck.seek(0);
  else if (command.do === "end") deck.seek(deck.length);
  else if (command.do === "seek") deck.seek(deck.position + command.seconds * deck.song.rate);
  else if (command.do === "loopStart") room.mark("start");
  else if (command.do === "loopEnd") room.mark("end");
  else if (command.do === "loopOff") deck.setLoop(null);
  else if (command.do === "tempo") {
    const rate = Math.round(100 * deck.stretch.rate + command.percent) / 100;
    deck.setStretch({ ...deck.stretch, rate: Math.min(FASTEST, Math.max(SLOWEST, rate)) });
  } else if (stem !== undefined && command.do === "mute") room.setFader(stem, { mute: !room.fader(stem).mute });
  else if (stem !== undefined && command.do === "solo") room.setFader(stem, { solo: !room.fader(stem).solo });
}

/** The bar: what was promised. A song is sent faster than it plays: how long it waits for that is no latency. */
function tell(room: Karaoke): void {
  const { ready, away, shell } = room;
  const lost = "The connection was lost: reconnecting… What has come already goes on playing.";
  shell.vital({ declared: ready?.latency_ms ?? null, network: away ? lost : "" });
}

function keyList(): HTMLDetailsElement {
  const list = make("dl", { class: "keys" });
  for (const [keys, does] of HELP) {
    const name = make("dt");
    name.append(...keys.split(" ").flatMap((key) => [make("kbd", {}, key), " "]));
    list.append(name, make("dd", {}, does));
  }
  const help = make("details", { class: "more card" });
  help.append(make("summary", {}, "Keys"), list);
  return help;
}

/** Once a frame, until what it gives is called. */
function every(step: () => void): () => void {
  let frame = requestAnimationFrame(function next() {
    step();
    frame = requestAnimationFrame(next);
  });
  return () => cancelAnimationFrame(frame);
}
