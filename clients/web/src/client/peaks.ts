// The outline of a sound that is still growing: the largest sample of every BIN, a stem. A waveform of any width is drawn from it.

export const BIN = 1024; // samples: 21 ms at 48 kHz, a pixel or less of any song that fits a screen

export class Peaks {
  private readonly bins: Float32Array[];

  /** `length` in samples; `channels` planes make one stem. */
  constructor(readonly length: number, readonly stems: number, private readonly channels: number) {
    this.bins = Array.from({ length: stems }, () => new Float32Array(Math.ceil(length / BIN)));
  }

  /** The planes of all stems, stem after stem, the first sample of each at `start`. */
  add(start: number, planes: readonly Float32Array[]): void {
    planes.forEach((plane, p) => {
      const bins = this.bins[Math.floor(p / this.channels)];
      for (let i = 0; i < plane.length && start + i < this.length; i += 1) {
        const bin = Math.floor((start + i) / BIN);
        const size = Math.abs(plane[i]);
        if (size > bins[bin]) bins[bin] = size;
      }
    });
  }

  /** Of one stem: the largest sample of each of `count` equal parts of the whole. */
  columns(stem: number, count: number): Float32Array {
    const bins = this.bins[stem];
    const wide = this.length / BIN / count;
    return Float32Array.from({ length: count }, (_, i) => {
      const [from, to] = [Math.floor(i * wide), Math.max(Math.floor(i * wide) + 1, Math.ceil((i + 1) * wide))];
      let most = 0;
      for (let bin = from; bin < Math.min(to, bins.length); bin += 1) most = Math.max(most, bins[bin]);
      return most;
    });
  }
}
