// What sounds now as a picture that moves to the left: low below, high above, the pitch in octaves.

import { RATE } from "../../shell";
import { Spectrum } from "./fft";

const SIZE = 4096; // samples: 85 ms, enough to tell semitones apart from 250 Hz on
const [LOW, HIGH] = [40, 16_000]; // Hz
const FLOOR = -84; // dB

export class Spectrogram {
  private readonly spectrum = new Spectrum(SIZE);
  private readonly sound = new Float32Array(SIZE);
  private readonly pen: CanvasRenderingContext2D;
  private readonly swatch = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true })!;
  private column: ImageData | null = null;

  /** `read` puts the samples around the ear into what it is given. */
  constructor(private readonly canvas: HTMLCanvasElement, private readonly read: (into: Float32Array) => void) {
    this.pen = canvas.getContext("2d", { alpha: true })!;
  }

  /** One column more. */
  step(): void {
    const { canvas, pen } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map(Math.round);
    if (width === 0 || height === 0) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    if (this.column?.height !== height) this.column = pen.createImageData(2, height);
    this.read(this.sound);
    this.paint(this.spectrum.levels(this.sound), this.column);
    pen.globalCompositeOperation = "copy"; // the old picture goes, where it is see-through too
    pen.drawImage(canvas, -2, 0);
    pen.globalCompositeOperation = "source-over";
    pen.putImageData(this.column, width - 2, 0);
  }

  clear(): void {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  // However the colour is written (oklch, color-mix), a canvas knows what it comes to.
  private colour(): Uint8ClampedArray {
    this.swatch.fillStyle = getComputedStyle(this.canvas).color;
    this.swatch.fillRect(0, 0, 1, 1);
    return this.swatch.getImageData(0, 0, 1, 1).data;
  }

  private paint(levels: Float32Array, { data, height }: ImageData): void {
    const [r, g, b] = this.colour();
    for (let y = 0; y < height; y += 1) {
      const [from, to] = [y + 1, y].map((edge) => binOf(1 - edge / height));
      let most = levels[Math.round((from + to) / 2)];
      for (let bin = Math.ceil(from); bin <= to; bin += 1) most = Math.max(most, levels[bin]);
      const shade = Math.max(0, Math.min(1, 1 - most / FLOOR));
      for (let x = 0; x < 2; x += 1) data.set([r, g, b, 255 * shade ** 1.6], 4 * (2 * y + x));
    }
  }
}

/** How far above the foot of the picture a pitch is, as a share of its height. */
export const heightOf = (hertz: number): number => Math.log(hertz / LOW) / Math.log(HIGH / LOW);

/** `share` of the picture's height from below to a bin, not a whole number. */
const binOf = (share: number): number => (LOW * (HIGH / LOW) ** share * SIZE) / RATE;
