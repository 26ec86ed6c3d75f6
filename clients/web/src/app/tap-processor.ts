// Hears what the listener hears: copies its input to the page, quantum by quantum, until told to stop.

class TapProcessor extends AudioWorkletProcessor {
  private alive = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.alive = false;
      this.port.postMessage(null); // messages keep their order: after this one the record is whole
    };
  }

  process(inputs: Float32Array[][]): boolean {
    const [left, right] = inputs[0];
    if (this.alive && left) this.port.postMessage([left.slice(), (right ?? left).slice()]);
    return this.alive;
  }
}

registerProcessor("rivulet-tap", TapProcessor);
