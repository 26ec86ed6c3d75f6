// Faders, mutes and solos to one gain a stem. All of it acts on stems that are here already: nothing asks the server.

export interface Fader {
  decibels: number; // FLOOR means silence
  mute: boolean;
  solo: boolean;
}

export const FLOOR = -60;
export const CEILING = 6;
export const STEP = 0.5;

export const freshFader = (): Fader => ({ decibels: 0, mute: false, solo: false });

export const gainOf = (decibels: number): number => (decibels <= FLOOR ? 0 : 10 ** (decibels / 20));

/** With any solo only solos sound; a mute wins over a solo, as on most desks. */
export function gains(faders: readonly Fader[], listening: boolean): number[] {
  const soloing = faders.some((fader) => fader.solo);
  return faders.map((fader) => {
    const open = listening && !fader.mute && (fader.solo || !soloing);
    return open ? gainOf(fader.decibels) : 0;
  });
}
