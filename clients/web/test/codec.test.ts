import { describe, expect, it } from "vitest";
import golden from "../../../tests/golden_wire.json";
import { type FromClient, decode, encode, pack, unpack } from "../src/client/codec";

const bytes = (hex: string): ArrayBuffer => Uint8Array.from(hex.match(/../g) ?? [], (two) => parseInt(two, 16)).buffer;

describe("golden vectors", () => {
  it.each(golden.binary)("reads $format from $start", ({ start, format, stems, hex }) => {
    const chunk = unpack(bytes(hex));
    expect([chunk.start, chunk.stems, chunk.channels, chunk.frames]).toEqual([start, stems.length, stems[0].length, stems[0][0].length]);
    const clip = (x: number): number => (format === "s16le" ? Math.min(Math.max(x, -1), 32767 / 32768) : x);
    expect(chunk.planes.map((plane) => [...plane])).toEqual(stems.flat().map((plane) => plane.map(clip)));
  });

  it.each(golden.binary)("writes the PCM of $format from $start", ({ format, stems, hex }) => {
    const planes = stems.map((stem) => stem.map((plane) => Float32Array.from(plane)));
    const body = planes.flatMap((stem) => [...new Uint8Array(pack(stem, format as "s16le" | "f32le"))]);
    expect(body).toEqual([...new Uint8Array(bytes(hex.slice(32)))]);
  });

  it.each(golden.client)("writes $type", (message) => {
    expect(JSON.parse(encode(message as FromClient))).toEqual(message);
  });

  it.each(golden.server)("reads $type", (message) => {
    expect(decode(JSON.stringify(message))).toEqual(message);
  });
});

it("reads a server that cannot resume, and refuses a token that is none", () => {
  const [ready] = golden.server;
  const older = JSON.stringify({ ...ready, resume: undefined, resume_samples: undefined, replay_from: null });
  expect(decode(older)).toMatchObject({ type: "ready", session: "s1" });
  expect(() => decode(JSON.stringify({ ...ready, resume: 5 }))).toThrow("got number for resume of ready, expected string");
});

describe("what is wrong", () => {
  const good = golden.binary[0].hex;
  it.each([
    ["a short header", good.slice(0, 30), "got 15 bytes"],
    ["another version", `02${good.slice(2)}`, "got version 2"],
    ["unknown flags", `01ff${good.slice(4)}`, "got flags 255"],
    ["a cut body", good.slice(0, -2), "got 25 bytes of stems, expected 26"],
  ])("refuses %s", (_name, hex, message) => expect(() => unpack(bytes(hex))).toThrow(message));

  it("ignores a type from the future and refuses a wrong field", () => {
    expect(decode('{"type": "weather"}')).toBeNull();
    expect(decode('{"type": "constructor"}')).toBeNull();
    expect(() => decode('{"type": "done", "samples": "many"}')).toThrow("got string for samples of done, expected number");
    expect(() => decode("[]")).toThrow("without a type");
  });
});

it("rounds halves to even, as numpy does", () => {
  const halves = Float32Array.from([0.5, 1.5, 2.5, -0.5, -1.5, -2.5].map((x) => x / 32768));
  expect([...new Int16Array(pack([halves], "s16le"))]).toEqual([0, 2, 2, 0, -2, -2]);
});
