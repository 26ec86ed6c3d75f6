// The keyboard: what every key does, for the room and for its list of keys.

export type Command =
  | { do: "play" | "start" | "end" | "loopStart" | "loopEnd" | "loopOff" | "help" }
  | { do: "seek"; seconds: number }
  | { do: "tempo"; percent: number }
  | { do: "mute" | "solo"; stem: number };

export const HELP: readonly (readonly [keys: string, does: string])[] = [
  ["Space", "play or pause"],
  ["← →", "5 seconds back or forth; with Shift, 1 second"],
  ["Home End", "to the beginning or the end"],
  ["[ ]", "the loop begins, or ends, here"],
  ["Backspace", "no loop"],
  ["m 1", "mute the first stem; m and 2, 3 … the others"],
  ["s 1", "solo, in the same way"],
  ["− +", "slower or faster by 5 %"],
  ["?", "this list"],
];

const PLAIN: Readonly<Record<string, Command>> = {
  " ": { do: "play" },
  Home: { do: "start" },
  End: { do: "end" },
  "[": { do: "loopStart" },
  "]": { do: "loopEnd" },
  Backspace: { do: "loopOff" },
  "?": { do: "help" },
  "-": { do: "tempo", percent: -5 },
  "+": { do: "tempo", percent: 5 },
  "=": { do: "tempo", percent: 5 },
};

/** Keys to commands; `m` and `s` wait for a number. */
export class Keys {
  private pending: "mute" | "solo" | null = null;

  /** null: not ours. */
  press({ key, shiftKey }: Pick<KeyboardEvent, "key" | "shiftKey">): Command | null {
    const { pending } = this;
    if (key === "Shift") return null;
    this.pending = key === "m" ? "mute" : key === "s" ? "solo" : null;
    if (pending !== null && /^[1-9]$/.test(key)) return { do: pending, stem: Number(key) - 1 };
    const seconds = shiftKey ? 1 : 5;
    if (key === "ArrowLeft") return { do: "seek", seconds: -seconds };
    if (key === "ArrowRight") return { do: "seek", seconds };
    return Object.hasOwn(PLAIN, key) ? PLAIN[key] : null;
  }
}

/** Whether the element that has the focus wants this key for itself. */
export function taken(element: Element | null, key: string): boolean {
  if (element === null) return false;
  const pressed = "[type=range], [type=checkbox], [type=radio], [type=file]";
  if (element.matches(`select, textarea, [contenteditable], input:not(${pressed})`)) return true;
  if (element.matches("input[type=range], input[type=radio]")) return /^(Arrow|Home|End|Page)/.test(key);
  return element.matches("button, a, summary, input") && (key === " " || key === "Enter");
}
