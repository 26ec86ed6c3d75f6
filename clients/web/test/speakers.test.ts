import { beforeEach, describe, expect, it } from "vitest";
import golden from "../../../tests/golden_wire.json";
import { decode } from "../src/client/codec";
import { type Conversation, json, rttm, stem } from "../src/client/export";
import { Joint } from "../src/client/joint";
import { type Model, choose } from "../src/client/models";
import { Session } from "../src/client/session";
import { Timeline, type Told, type Turn } from "../src/client/turns";
import { READY, START, type Watched, Wire, handlers, plane, watched } from "./wire";

const turn = (id: number, speaker: number, start: number, end: number, final = false): Turn => ({ id, speaker, start, end, final });
const told = (at: number, turns: Turn[], active: number[] = [], dropped: number[] = []): Told => ({ told: at, active, turns, dropped });

describe("the message", () => {
  const good = golden.server.find((message) => message.type === "speakers")!;
  it.each([
    ["told", { told: "now" }, "got string for told"],
    ["active", { active: {} }, "for active of speakers, expected a list"],
    ["a number", { dropped: ["x"] }, "got string for a number of speakers"],
    ["a turn", { turns: [{ ...turn(0, 0, 0, 1), end: undefined }] }, "got undefined for end of a turn"],
    ["no turn", { turns: [null] }, "got undefined for id of a turn"],
  ])("is refused for a wrong %s", (_name, change, said) => {
    expect(() => decode(JSON.stringify({ ...good, ...change }))).toThrow(said);
  });
});

describe("a timeline", () => {
  const timeline = new Timeline(1000);
  timeline.take(told(400, [turn(0, 1, 100, 400)], [1]));
  timeline.take(told(900, [turn(0, 1, 100, 500, true), turn(2, 0, 450, 900), turn(3, 2, 700, 900)], [0, 2]));

  it("holds what was told last", () => {
    expect([timeline.told, timeline.active]).toEqual([900, [0, 2]]);
    expect(timeline.turns.map(({ id, end }) => [id, end])).toEqual([[0, 500], [2, 900], [3, 900]]);
    expect([99, 100, 460, 500, 900].map((sample) => timeline.at(sample))).toEqual([[], [1], [0, 1], [0], []]);
    expect(timeline.between(1, 499, 600)).toEqual([turn(0, 1, 100, 500, true)]);
    expect(timeline.between(1, 500, 600)).toEqual([]);
  });

  it("shows nobody for a breath, and nobody whose turn was dropped", () => {
    expect(timeline.speakers).toEqual([0, 1]);
    timeline.take(told(1000, [turn(2, 0, 450, 900, true)], [], [3]));
    expect(timeline.turns.map(({ id }) => id)).toEqual([0, 2]);
    timeline.take(told(1010, [turn(4, 2, 1000, 1010, true)], []));
    expect(timeline.speakers).toEqual([0, 1, 2]);
  });
});

describe("turns over connections that break", () => {
  let joint: Joint;
  beforeEach(() => (joint = new Joint()));

  it("come as they are while none breaks, whatever their ids", () => {
    const event = told(1000, [turn(70, 0, 0, 1000), turn(3, 1, 200, 900, true)], [0]);
    expect(joint.take(event)).toEqual(event);
    expect(joint.take(told(2000, [], [], [70]))).toEqual(told(2000, [], [], [70]));
  });

  it("go on with their ids, and nothing is told twice", () => {
    joint.take(told(1000, [turn(0, 0, 0, 400, true), turn(1, 0, 500, 1000)], [0]));
    joint.broken();
    expect(joint.take(told(800, [turn(0, 0, 120, 400, true), turn(1, 0, 500, 800)], [0]))).toBeNull();
    const on = joint.take(told(1500, [turn(1, 0, 510, 1200, true), turn(2, 1, 1100, 1500)], [1]));
    expect(on).toEqual(told(1500, [turn(1, 0, 500, 1200, true), turn(2, 1, 1100, 1500)], [1]));
    joint.broken();
    const again = joint.take(told(1600, [turn(0, 0, 1500, 1600)], [0]));
    expect(again).toEqual(told(1600, [turn(3, 0, 1500, 1600), turn(2, 1, 1100, 1500, true)], [0]));
    expect(joint.take(told(1700, [], [], [0]))).toEqual(told(1700, [], [], [3]));
    expect(joint.end()).toBeNull();
  });

  it("keep what was said before the break when the rest of it is too short", () => {
    joint.take(told(1000, [turn(0, 0, 0, 1000)]));
    joint.broken();
    joint.take(told(1010, [turn(0, 0, 1000, 1010)]));
    expect(joint.take(told(1100, [], [], [0]))).toEqual(told(1100, [turn(0, 0, 0, 1010, true)]));
  });

  it("are final at the end", () => {
    joint.take(told(1000, [turn(0, 0, 0, 1000)], [0]));
    joint.broken();
    expect(joint.end()).toEqual(told(1000, [turn(0, 0, 0, 1000, true)]));
  });
});

describe("a session", () => {
  let wire: Wire;
  let on: Watched;
  let session: Session;
  beforeEach(async () => {
    [wire, on] = [new Wire(), watched()];
    session = new Session(() => Promise.resolve(wire), { ...START, mode: "diarize" }, handlers(on));
    await Promise.resolve();
    wire.onopen?.();
    wire.say({ ...READY, stems: [], mode: "diarize", resume_samples: 4 });
  });

  it("asks for the mode and hands on who speaks", () => {
    expect(wire.heard[0]).toMatchObject({ type: "start", mode: "diarize" });
    const event = told(5, [turn(0, 0, 1, 5)], [0]);
    wire.say({ type: "speakers", ...event });
    expect(on.speakers).toHaveBeenCalledExactlyOnceWith(event);
  });

  it("without stems counts what the server has dealt with, and ends with all of it", () => {
    session.send(plane(0, 10));
    session.send(plane(10, 20));
    wire.say({ ...golden.server.find((message) => message.type === "stats"), told: 12 });
    expect(session.told).toBe(12);
    wire.say({ type: "speakers", ...told(20, [turn(0, 0, 1, 20)], [0]) });
    session.end();
    wire.say({ type: "done", samples: 20 });
    expect(session.told).toBe(20);
    expect(on.speakers.mock.calls.map(([event]) => event.turns)).toEqual([[turn(0, 0, 1, 20)], [turn(0, 0, 1, 20, true)]]);
    expect(on.done).toHaveBeenCalledExactlyOnceWith(20);
  });
});

describe("what a sound is taken apart into", () => {
  const model = (name: string, more: Partial<Model> = {}): Model => ({
    name, sources: [], rate: 16000, channels: 1, latency_ms: null, licence: "", present: true, interchangeable: false, default_for: [], ...more,
  });
  const music = model("music", { default_for: ["file"] });
  const old = model("speech", { default_for: ["microphone"], interchangeable: true });
  const speech = { ...old, modes: ["separate", "speakers", "diarize"] as const };
  const names = ({ model, mode }: ReturnType<typeof choose>): unknown[] => [model?.name, mode];

  it.each([
    ["a song", "file", "suits", null, ["music", "separate"]],
    ["a microphone", "microphone", "suits", null, ["speech", "speakers"]],
    ["a file, by hand", "file", "speakers", null, ["speech", "speakers"]],
    ["a microphone, by hand", "microphone", "stems", null, ["speech", "separate"]],
    ["a file and a model of voices", "file", "suits", "speech", ["speech", "speakers"]],
    ["a microphone and a model of music", "microphone", "suits", "music", ["music", "separate"]],
    ["people, of a model that has none", "file", "speakers", "music", ["speech", "speakers"]],
    ["a model that is gone", "file", "suits", "lost", ["music", "separate"]],
  ] as const)("%s", (_name, purpose, into, chosen, expected) => {
    expect(names(choose([music, speech], purpose, into, chosen))).toEqual(expected);
  });

  it("of a server that has no tracks a person, stems", () => {
    expect(names(choose([music, old], "microphone", "speakers"))).toEqual(["speech", "separate"]);
  });
});

describe("files", () => {
  const conversation: Conversation = {
    recording: "a call", rate: 8000, origin: 80, model: "speech", diarizer: "voices",
    turns: [turn(0, 0, 20, 1564, true), turn(1, 1, 320, 1120)], nameOf: (speaker) => (speaker === 0 ? " Ada  Lovelace" : "Speaker 2"),
  };

  it("RTTM, to the millisecond", () => {
    expect(rttm(conversation)).toBe(
      "SPEAKER a_call 1 0.013 0.193 <NA> <NA> Ada_Lovelace <NA> <NA>\nSPEAKER a_call 1 0.050 0.100 <NA> <NA> Speaker_2 <NA> <NA>\n",
    );
  });

  it("JSON", () => {
    expect(JSON.parse(json(conversation))).toMatchObject({
      recording: "a call", speakers: [" Ada  Lovelace", "Speaker 2"], diarizer: "voices",
      turns: [{ speaker: " Ada  Lovelace", start: 0.013, end: 0.206, track: 1, final: true }, { start: 0.05, end: 0.15, track: 2, final: false }],
    });
  });

  it("with names that a file system takes", () => {
    expect(["Käse & Brot.m4a", "../x.wav", "a.b c.mp3", "???"].map(stem)).toEqual(["Käse _ Brot", ".._x", "a.b c", "_"]);
  });
});
