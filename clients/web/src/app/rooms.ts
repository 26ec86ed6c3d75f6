// The rooms of the page, and which of them an address names.

import type { Open, RoomName } from "./shell";

export interface Place {
  name: RoomName;
  title: string;
  open(): Promise<{ open: Open }>; // its code is fetched when somebody first goes there
}

export const ROOMS: readonly Place[] = [
  { name: "karaoke", title: "Karaoke", open: () => import("./rooms/karaoke") },
  { name: "live", title: "Live mix", open: () => import("./rooms/live") },
  { name: "meeting", title: "Meeting", open: () => import("./rooms/meeting") },
];

/** The room that a fragment such as `#meeting` or `#live&key=...` names, or null. */
export function roomOf(hash: string): Place | null {
  const said = [...new URLSearchParams(hash.slice(1)).keys()];
  return ROOMS.find(({ name }) => said.includes(name)) ?? null;
}
