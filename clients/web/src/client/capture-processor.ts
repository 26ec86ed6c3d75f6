// Microphone samples to the page in blocks, each with the context's time of its first sample.

const BLOCK = 512; // 10.7 ms at 48 kHz: more waits for nothing, less is all messages

class CaptureProcessor extends AudioWorkletProcessor {
  private planes: Float32Array[] = [];
  private filled = 0;
  private time = 0;
  private leaving = false;

  constructor() {
    super();
    this.port.onmessage = () => (this.leaving = true);
  }

  process(inputs: Float32Array[][]): boolean {
    const input = inputs[0];
    if (input.length === 0) return !this.leaving;
    if (this.planes.length !== input.length) {
      this.planes = input.map(() => new Float32Array(BLOCK));
      this.filled = 0;
    }
    if (this.filled === 0) this.time = currentTime;
    input.forEach((plane, c) => this.planes[c].set(plane, this.filled));
    this.filled += input[0].length;
    if (this.filled === BLOCK) {
      this.port.postMessage({ time: this.time, planes: this.planes }, this.planes.map((plane) => plane.buffer));
      this.planes = input.map(() => new Float32Array(BLOCK));
      this.filled = 0;
    }
    return !this.leaving;
  }
}

registerProcessor("rivulet-capture", CaptureProcessor);
