// The spectrum of a short piece of sound: radix-2 FFT (Cooley and Tukey 1965) of a power of two of real samples under a Hann
// window, to levels in dB of full scale.

export class Spectrum {
  private readonly window: Float64Array;
  private readonly cos: Float64Array;
  private readonly sin: Float64Array;
  private readonly re: Float64Array;
  private readonly im: Float64Array;
  private readonly place: Uint32Array; // of each sample: its index with the bits reversed

  /** `size`: samples, a power of two. */
  constructor(readonly size: number) {
    const bits = Math.log2(size);
    if (!Number.isInteger(bits)) throw new Error(`got ${size} samples, expected a power of two`);
    const angle = (i: number): number => (2 * Math.PI * i) / size;
    this.window = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos(angle(i)));
    this.cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos(angle(i)));
    this.sin = Float64Array.from({ length: size / 2 }, (_, i) => -Math.sin(angle(i)));
    [this.re, this.im] = [new Float64Array(size), new Float64Array(size)];
    const reversed = (i: number): string => [...i.toString(2).padStart(bits, "0")].reverse().join("");
    this.place = Uint32Array.from({ length: size }, (_, i) => parseInt(reversed(i), 2));
  }

  /** `size / 2` levels; a sine of full scale between two bins is 0 dB within the window's 1.4 dB. */
  levels(sound: Float32Array): Float32Array {
    const { size, re, im } = this;
    for (let i = 0; i < size; i += 1) re[this.place[i]] = sound[i] * this.window[i];
    im.fill(0);
    for (let half = 1; half < size; half *= 2) {
      for (let base = 0; base < size; base += 2 * half) this.butterflies(base, half);
    }
    // A Hann window halves a sine, and half of that is at the negative frequency: amplitude = 4 |X| / size.
    const amplitude = (k: number): number => (4 * Math.hypot(re[k], im[k])) / size;
    return Float32Array.from({ length: size / 2 }, (_, k) => 20 * Math.log10(Math.max(amplitude(k), 1e-6)));
  }

  private butterflies(base: number, half: number): void {
    const { re, im } = this;
    const step = this.size / (2 * half);
    for (let i = 0; i < half; i += 1) {
      const [a, b] = [base + i, base + i + half];
      const [c, s] = [this.cos[i * step], this.sin[i * step]];
      const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
      re[b] = re[a] - x;
      im[b] = im[a] - y;
      re[a] += x;
      im[a] += y;
    }
  }
}
