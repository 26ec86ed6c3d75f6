import { describe, expect, it } from "vitest";
import { Ring, unwrap } from "../src/client/ring";

const ramp = (start: number, length: number, sign = 1): Float32Array => Float32Array.from({ length }, (_, i) => sign * (start + i));

describe.each([false, true])("shared: %s", (shared) => {
  const pair = (origin = 0): [Ring, Ring] => {
    const memory = Ring.memory(2, 100, shared, origin);
    return [new Ring(memory, origin), new Ring(memory, origin)];
  };
  const take = (ring: Ring, frames: number): number[][] => {
    const into = [new Float32Array(frames), new Float32Array(frames)];
    ring.read(into, frames);
    return into.map((plane) => [...plane]);
  };

  it("gives back what was put in, around the end many times, in ragged pieces", () => {
    const [writer, reader] = pair();
    let [written, read] = [0, 0];
    for (let turn = 0; turn < 200; turn += 1) {
      const size = 1 + ((turn * 7) % 50);
      writer.write(written, [ramp(written, size), ramp(written, size, -1)]);
      written += size;
      const frames = Math.max(0, reader.available - (turn % 5));
      expect(take(reader, frames)).toEqual([[...ramp(read, frames)], [...ramp(read, frames, -1)]]);
      read += frames;
    }
    expect(writer.readIndex).toBe(read);
    expect(reader.gaps).toBe(0);
  });

  it("makes a gap silence and drops what is old", () => {
    const [writer, reader] = pair();
    writer.write(0, [ramp(1, 4), ramp(1, 4)]);
    writer.write(6, [ramp(7, 2), ramp(7, 2)]);
    writer.write(3, [ramp(90, 2), ramp(90, 2)]); // all of it lies before the write index
    writer.write(7, [ramp(90, 2), ramp(90, 2)]); // only its second sample is new
    expect(take(reader, 9)[0]).toEqual([1, 2, 3, 4, 0, 0, 7, 8, 91]);
    expect(writer.gaps).toBe(2);
  });

  it("loses the oldest when the reader stands still", () => {
    const [writer, reader] = pair();
    for (let at = 0; at < 400; at += 40) writer.write(at, [ramp(at, 40), ramp(at, 40)]);
    expect(reader.available).toBe(writer.capacity);
    expect(take(reader, 1)[0]).toEqual([400 - writer.capacity]);
  });

  it("takes a block or a gap larger than itself", () => {
    const [writer, reader] = pair();
    writer.write(0, [ramp(0, 300), ramp(0, 300)]);
    expect(take(reader, reader.available)[0].at(-1)).toBe(299);
    writer.write(1000, [ramp(1000, 3), ramp(1000, 3)]);
    const tail = take(reader, reader.available)[0];
    expect(tail.slice(-4)).toEqual([0, 1000, 1001, 1002]);
    expect(tail.slice(0, -3).every((x) => x === 0)).toBe(true);
  });

  it("counts on across 2^32 samples", () => {
    const origin = 2 ** 32 - 10;
    const [writer, reader] = pair(origin);
    writer.write(origin, [ramp(0, 30), ramp(0, 30)]);
    expect(reader.available).toBe(30);
    expect(take(reader, 30)[0]).toEqual([...ramp(0, 30)]);
    expect(reader.readIndex).toBe(2 ** 32 + 20);
    expect(writer.writeIndex).toBe(2 ** 32 + 20);
  });
});

it("unwraps to the nearest index", () => {
  expect(unwrap(-1, 2 ** 32)).toBe(2 ** 32 - 1);
  expect(unwrap(5, 2 ** 32 - 3)).toBe(2 ** 32 + 5);
});
