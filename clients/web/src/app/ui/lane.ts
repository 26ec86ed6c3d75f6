// The last seconds of one stem as a row of bars, the newest on the right. One canvas a stem, drawn from the reported peaks.

const BAR = 4; // pixels a bar and its gap
const REPORTS = 4; // reports of the audio thread a bar: 128 ms

export class Lane {
  private bars: number[] = [];
  private peak = 0;
  private count = 0;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** A linear peak. Drawn as its square root: quiet and loud both show, and a phrase still has a shape. */
  push(peak: number): void {
    this.peak = Math.max(this.peak, peak);
    this.count += 1;
    if (this.count < REPORTS) return;
    this.bars.push(Math.min(1, Math.sqrt(this.peak)));
    this.peak = this.count = 0;
    this.draw();
  }

  private draw(): void {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    const room = Math.floor(width / BAR);
    if (this.bars.length > room) this.bars.splice(0, this.bars.length - room);
    canvas.width = Math.round(width * ratio); // also clears it
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    if (pen === null) return;
    pen.scale(ratio, ratio);
    pen.fillStyle = getComputedStyle(canvas).color;
    this.bars.forEach((bar, i) => {
      const tall = Math.max(2, bar * height);
      const left = width - (this.bars.length - i) * BAR;
      pen.beginPath();
      pen.roundRect(left, (height - tall) / 2, BAR - 1.5, tall, 1.25);
      pen.fill();
    });
  }
}
