// A FLAC file, by libFLAC in WebAssembly (mediabunny and its encoder): no browser encodes FLAC itself. Large: import it when
// somebody asks for a file.

import { registerFlacEncoder } from "@mediabunny/flac-encoder";
import { AudioSample, AudioSampleSource, BufferTarget, FlacOutputFormat, Output, canEncodeAudio } from "mediabunny";
import { type Read, quantised } from "./export-wav";

const PIECE = 1 << 16; // samples at once

/** 16 bits a sample, as `export-wav.ts` rounds them. */
export async function flac(read: Read, length: number, channels: number, rate: number): Promise<Blob> {
  if (!(await canEncodeAudio("flac"))) registerFlacEncoder();
  const output = new Output({ format: new FlacOutputFormat(), target: new BufferTarget() });
  const source = new AudioSampleSource({ codec: "flac" });
  output.addAudioTrack(source);
  await output.start();
  for (let at = 0; at < length; at += PIECE) {
    const frames = Math.min(PIECE, length - at);
    const data = interleaved(read(at, frames), frames);
    const sample = new AudioSample({ data, format: "s16", numberOfChannels: channels, sampleRate: rate, timestamp: at / rate });
    await source.add(sample);
    sample.close();
  }
  await output.finalize();
  return new Blob([output.target.buffer!], { type: "audio/flac" });
}

function interleaved(planes: readonly Float32Array[], frames: number): Int16Array<ArrayBuffer> {
  const out = new Int16Array(frames * planes.length);
  planes.forEach((plane, c) => {
    for (let i = 0; i < frames; i += 1) out[i * planes.length + c] = quantised(plane[i], 16);
  });
  return out;
}
