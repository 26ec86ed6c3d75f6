import { describe, expect, it } from "vitest";
import { FADE, Mixer, type Policy, QUANTUM } from "../src/client/mixer";
import { Ring } from "../src/client/ring";

const POLICY: Policy = { target: 1024, step: 512, cap: 4096, slack: Infinity, rate: 48000 };

/** Two mono stems of constant 1 and 0.25: the output is the gain itself, so a click is a step in it. */
function desk(policy: Partial<Policy> = {}, capacity = 1 << 17) {
  const ring = new Ring(Ring.memory(2, capacity, false));
  const mixer = new Mixer(ring, 2, 1, { ...POLICY, ...policy });
  return {
    mixer,
    feed: (frames: number) => ring.write(ring.writeIndex, [new Float32Array(frames).fill(1), new Float32Array(frames).fill(0.25)]),
    play(quanta: number): number[] {
      const [left, right] = [new Float32Array(QUANTUM), new Float32Array(QUANTUM)];
      return Array.from({ length: quanta }, () => {
        mixer.process(left, right);
        expect(right).toEqual(left);
        return [...left];
      }).flat();
    },
  };
}

const steepest = (samples: number[]): number => Math.max(...samples.slice(1).map((x, i) => Math.abs(x - samples[i])));
const PER_SAMPLE = 1.25 / FADE + 1e-6; // the envelope's own slope at the loudest

describe("starting and stopping", () => {
  it("waits for the target, then fades in and adds the stems", () => {
    const { mixer, feed, play } = desk();
    feed(1023);
    expect(Math.max(...play(4))).toBe(0);
    feed(20_000);
    const out = play(20);
    expect(out.at(-1)).toBe(1.25);
    expect(steepest([0, ...out])).toBeLessThan(PER_SAMPLE);
    expect(mixer.ring.readIndex).toBe(20 * QUANTUM);
  });

  it("plays a known end to its last sample", () => {
    const { mixer, feed, play } = desk();
    feed(1000);
    mixer.setEnd(1000);
    const out = play(10);
    expect(out.slice(FADE, 1000).every((x) => x === 1.25)).toBe(true);
    expect(out.slice(1000).every((x) => x === 0)).toBe(true);
    expect([mixer.phase, mixer.underruns, mixer.ring.readIndex]).toEqual(["ended", 0, 1000]);
  });

  it("ends at once when the end is where it stands", () => {
    const { mixer, play } = desk();
    mixer.setEnd(0);
    play(1);
    expect(mixer.phase).toBe("ended");
  });
});

describe("running dry", () => {
  it("fades, counts one underrun, loses nothing, waits for more than before and fades in again", () => {
    const { mixer, feed, play } = desk();
    feed(3000);
    const out = play(40);
    expect(steepest([...out, 0])).toBeLessThan(PER_SAMPLE);
    expect([mixer.phase, mixer.underruns, mixer.target]).toEqual(["filling", 1, 1536]);
    const held = mixer.ring.available;
    expect(held).toBeLessThan(QUANTUM + FADE);
    feed(1535 - held);
    expect(Math.max(...play(3))).toBe(0);
    feed(5000);
    const again = play(10);
    expect(steepest([0, ...again])).toBeLessThan(PER_SAMPLE);
    expect(again.at(-1)).toBe(1.25);
    expect(mixer.underruns).toBe(1);
  });

  it("recovers from a close call without an underrun", () => {
    const { mixer, feed, play } = desk();
    feed(1024);
    const out = play(7);
    feed(20_000);
    out.push(...play(10));
    expect(steepest([0, ...out])).toBeLessThan(PER_SAMPLE);
    expect([out.at(-1), mixer.underruns, mixer.phase]).toEqual([1.25, 0, "playing"]);
  });

  it("never asks for more than the cap", () => {
    const { mixer, feed, play } = desk();
    for (let turn = 0; turn < 20; turn += 1) {
      feed(5000);
      play(60);
    }
    expect(mixer.target).toBe(4096);
  });
});

describe("pause", () => {
  it("fades out, stops pulling, and goes on with the next sample", () => {
    const { mixer, feed, play } = desk();
    feed(40_000);
    const out = play(10);
    mixer.setPaused(true);
    out.push(...play(10));
    const stood = mixer.ring.readIndex;
    expect(stood).toBe(10 * QUANTUM + FADE);
    out.push(...play(50));
    expect([mixer.ring.readIndex, mixer.phase, out.at(-1)]).toEqual([stood, "paused", 0]);
    mixer.setPaused(false);
    out.push(...play(5));
    expect([mixer.ring.readIndex, out.at(-1), mixer.underruns]).toEqual([stood + 5 * QUANTUM, 1.25, 0]);
    expect(steepest([0, ...out])).toBeLessThan(PER_SAMPLE);
  });

  it("holds before the first sample and at the end", () => {
    const { mixer, feed, play } = desk();
    mixer.setPaused(true);
    feed(2000);
    mixer.setEnd(2000);
    expect(Math.max(...play(30))).toBe(0);
    expect(mixer.phase).toBe("paused");
    mixer.setPaused(false);
    expect(play(30)[500]).toBe(1.25);
    expect(mixer.phase).toBe("ended");
  });
});

describe("gains", () => {
  it("reach their goal in 10 ms, exactly and without a step", () => {
    const { mixer, feed, play } = desk();
    feed(40_000);
    play(10);
    mixer.setGains([0, 1]);
    const out = play(4); // 512 samples, just over 10 ms
    expect(out[470]).toBeGreaterThan(0.25);
    expect(out.at(-1)).toBe(0.25);
    expect(steepest([1.25, ...out])).toBeLessThan(1 / 480 + 1e-6);
  });

  it("set in silence are there from the first sample", () => {
    const { mixer, feed, play } = desk();
    mixer.setGains([0, 1]);
    play(1);
    feed(40_000);
    expect(Math.max(...play(20))).toBe(0.25);
  });

  it("do not hide a stem from its meter", () => {
    const { mixer, feed, play } = desk();
    mixer.setGains([0, 0]);
    feed(40_000);
    play(10);
    expect([...mixer.takePeaks()]).toEqual([1, 0.25]);
    expect([...mixer.takePeaks()]).toEqual([0, 0]);
  });
});

it("live: steps over audio that waited for a whole second, without a click", () => {
  const { mixer, feed, play } = desk({ slack: 4800 });
  feed(30_000);
  const out: number[] = [];
  for (let turn = 0; turn < 800; turn += 1) {
    out.push(...play(1));
    feed(QUANTUM);
  }
  expect(mixer.skipped).toBeGreaterThan(20_000);
  expect(mixer.ring.available).toBeLessThan(1024 + 4800);
  expect([mixer.underruns, out.at(-1)]).toEqual([0, 1.25]);
  expect(steepest([0, ...out])).toBeLessThan(PER_SAMPLE);
});

it("pan: each side has its own gain, with its own ramp", () => {
  const ring = new Ring(Ring.memory(2, 1 << 15, false)); // one stereo stem
  const mixer = new Mixer(ring, 1, 2, POLICY);
  ring.write(0, [new Float32Array(30_000).fill(1), new Float32Array(30_000).fill(0.5)]);
  const [left, right] = [new Float32Array(QUANTUM), new Float32Array(QUANTUM)];
  const play = (quanta: number): void => {
    for (let i = 0; i < quanta; i += 1) mixer.process(left, right);
  };
  play(10);
  expect([left[127], right[127]]).toEqual([1, 0.5]);
  mixer.setGains([[0, 1]]);
  play(1);
  expect(left[127]).toBeCloseTo(1 - 128 / 480, 4);
  expect(right[127]).toBe(0.5);
  play(4);
  expect([left[127], right[127]]).toEqual([0, 0.5]);
});

it("a change of more than full scale takes 10 ms too", () => {
  const { mixer, feed, play } = desk();
  feed(40_000);
  play(10);
  mixer.setGains([4, 0]);
  expect(play(4).at(-1)).toBe(4);
});

it("live: a target that underruns have raised comes down by a step each calm half minute, and what is then too much is stepped over", () => {
  const { mixer, feed, play } = desk({ slack: 256, step: 512 });
  mixer.expect(128, 1024);
  feed(2000);
  play(30); // runs dry
  expect([mixer.underruns, mixer.target]).toEqual([1, 1536]);
  feed(1800);
  const [left, right, silence] = [0, 1, 2].map(() => new Float32Array(QUANTUM));
  for (let turn = 0; turn < 375 * 130; turn += 1) {
    mixer.process(left, right);
    mixer.ring.write(mixer.ring.writeIndex, [silence, silence]);
  }
  expect([mixer.underruns, mixer.target]).toEqual([1, 1024]);
  expect(mixer.ring.available).toBeLessThan(1024 + 512);
});

it("live: a target grows by as long as nothing came, and stays while the store is needed", () => {
  const { mixer, feed, play } = desk({ slack: 4096, step: 512, cap: 48_000 });
  mixer.expect(128, 1024);
  feed(1024);
  play(4);
  const before = mixer.underruns;
  play(60); // nothing comes for longer than a step
  expect([before, mixer.underruns]).toEqual([0, 1]);
  feed(6000);
  play(1);
  const learned = mixer.target;
  expect(learned).toBeGreaterThan(1024 + 50 * QUANTUM);
  expect(learned).toBeLessThan(1024 + 512 + 60 * QUANTUM);
  const [left, right] = [0, 1].map(() => new Float32Array(QUANTUM));
  feed(learned);
  for (let turn = 0; turn < 375 * 100; turn += 1) { // a dip nearly to the bottom every ten seconds
    mixer.process(left, right);
    const dip = turn % 3750 < 100 && mixer.ring.available > 750;
    if (!dip && mixer.ring.available < learned) feed(2 * QUANTUM);
  }
  expect([mixer.underruns, mixer.target]).toEqual([1, learned]);
});
