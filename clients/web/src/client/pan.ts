// Where a stem stands between left and right. In the middle nothing is changed: all stems in the middle sum to the song.

/** Gains of the left and the right side; what is to be panned has two planes, of which a mono stem's are the same. */
export type Sides = readonly [left: number, right: number];

/**
 * `pan`: -1 is left, 1 is right. A mono stem keeps its power wherever it stands (sine and cosine law, 0 dB in the middle and so
 * 3 dB up at an end). A stereo stem is balanced: the side that is moved away from falls as a cosine, nothing changes sides.
 */
export function sides(pan: number, channels: number): Sides {
  const at = Math.min(1, Math.max(-1, pan));
  if (channels === 1) {
    const angle = ((at + 1) * Math.PI) / 4;
    return at === 0 ? [1, 1] : [Math.SQRT2 * Math.cos(angle), Math.SQRT2 * Math.sin(angle)];
  }
  const away = Math.abs(at) === 1 ? 0 : Math.cos((Math.abs(at) * Math.PI) / 2);
  return at > 0 ? [away, 1] : at < 0 ? [1, away] : [1, 1];
}
