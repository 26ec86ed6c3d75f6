import { describe, expect, it, vi } from "vitest";
import { Emitter } from "../src/client/emitter";
import { sides } from "../src/client/pan";
import { Desk } from "../src/client/stem";

const power = ([left, right]: readonly [number, number]): number => left ** 2 + right ** 2;

describe("pan", () => {
  it.each([1, 2])("of %i channels changes nothing in the middle", (channels) => expect(sides(0, channels)).toEqual([1, 1]));

  it("keeps the power of a mono stem wherever it stands", () => {
    for (let pan = -1; pan <= 1; pan += 0.05) expect(power(sides(pan, 1))).toBeCloseTo(2, 9);
    expect(sides(-1, 1)[1]).toBeCloseTo(0, 9);
    expect(sides(1, 1)[0]).toBeCloseTo(0, 9);
  });

  it("balances a stereo stem: one side stays, the other falls to nothing", () => {
    expect(sides(1, 2)).toEqual([0, 1]);
    expect(sides(-1, 2)).toEqual([1, 0]);
    const [left, right] = sides(0.5, 2);
    expect([left, right]).toEqual([Math.cos(Math.PI / 4), 1]);
  });

  it("is the same on both sides, and takes what is beyond an end for the end", () => {
    for (const channels of [1, 2]) {
      for (const pan of [0.3, 0.7, 1]) {
        const [left, right] = sides(pan, channels);
        const [other, one] = sides(-pan, channels);
        expect([other, one]).toEqual([expect.closeTo(right, 9), expect.closeTo(left, 9)]);
      }
      expect(sides(7, channels)).toEqual(sides(1, channels));
    }
  });
});

describe("the desk", () => {
  const desk = (channels = 2) => {
    const apply = vi.fn();
    return { apply, desk: new Desk(["vocals", "drums", "bass"], channels, apply) };
  };

  it("turns every knob at once into gains", () => {
    const { apply, desk: { stems: [vocals, drums] } } = desk();
    vocals.gain = 0.5;
    expect(apply).toHaveBeenLastCalledWith([[0.5, 0.5], [1, 1], [1, 1]]);
    drums.pan = 1;
    expect(apply).toHaveBeenLastCalledWith([[0.5, 0.5], [0, 1], [1, 1]]);
    drums.muted = true;
    expect(apply).toHaveBeenLastCalledWith([[0.5, 0.5], [0, 0], [1, 1]]);
    expect(apply).toHaveBeenCalledTimes(3);
  });

  it("with a solo only solos sound, and a mute wins", () => {
    const { apply, desk: { stems: [vocals, drums] } } = desk();
    vocals.solo = true;
    expect(apply).toHaveBeenLastCalledWith([[1, 1], [0, 0], [0, 0]]);
    drums.solo = true;
    vocals.muted = true;
    expect(apply).toHaveBeenLastCalledWith([[0, 0], [1, 1], [0, 0]]);
    drums.solo = vocals.solo = vocals.muted = false;
    expect(apply).toHaveBeenLastCalledWith([[1, 1], [1, 1], [1, 1]]);
  });

  it("says what it cannot do", () => {
    const { apply, desk: { stems: [vocals] } } = desk(1);
    expect(() => (vocals.gain = -1)).toThrow("got a gain of -1 for vocals, expected 0 to 16");
    expect(() => (vocals.gain = NaN)).toThrow("got a gain of NaN");
    expect(() => (vocals.pan = 1.5)).toThrow("got a pan of 1.5 for vocals, expected -1 to 1");
    expect([apply.mock.calls.length, vocals.gain, vocals.pan]).toEqual([0, 1, 0]);
  });
});

describe("events", () => {
  it("reach whoever listens, until he does not", () => {
    const emitter = new Emitter<{ told: number }>();
    const [first, second] = [vi.fn(), vi.fn()];
    const off = emitter.on("told", first);
    emitter.on("told", second);
    emitter.emit("told", 1);
    off();
    emitter.emit("told", 2);
    expect([first.mock.calls, second.mock.calls]).toEqual([[[1]], [[1], [2]]]);
  });

  it("a listener that takes itself away harms no other", () => {
    const emitter = new Emitter<{ told: number }>();
    const heard = vi.fn();
    const off = emitter.on("told", () => off());
    emitter.on("told", heard);
    emitter.emit("told", 1);
    expect(heard).toHaveBeenCalledOnce();
  });
});
