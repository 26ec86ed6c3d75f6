// Where the page begins: a room for every fragment of its address, one of them open.

import { debug } from "./debug";
import { Page } from "./page";
import { ROOMS, type Place, roomOf } from "./rooms";
import { make } from "./ui/elements";

declare global {
  interface Window {
    rivulet: ReturnType<typeof debug>;
  }
}

const at = (id: string): HTMLElement => document.getElementById(id)!;
const page = new Page(at("room"), at("bar"));
const links = new Map<Place, HTMLAnchorElement>();

for (const place of ROOMS) {
  const link = make("a", { href: `#${place.name}` }, place.title);
  links.set(place, link);
  at("rooms").append(link);
}

page.onroom = () => {
  for (const [place, link] of links) {
    if (place === page.place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page.place?.title ?? ""} · Rivulet`;
  document.documentElement.dataset.room = page.place?.name ?? "";
  window.rivulet = debug(page);
};

/** A key is taken out of the address; an address that then names no room leaves us where we are. */
function go(): void {
  const room = roomOf(location.hash);
  const keyed = page.key.take(location, history);
  void page.enter(room ?? page.place ?? ROOMS[0]);
  if (keyed || page.models.length === 0) void page.load();
}

at("skip").addEventListener("click", () => at("room").focus());
// A file that misses the room's own place for it would make the browser leave the page.
for (const name of ["dragover", "drop"] as const) document.addEventListener(name, (event) => event.preventDefault());
// The key is changed by the fragment of a page that is open already, and so is the room.
addEventListener("hashchange", go);
go();
