"""A session that tells who speaks: its events, on its own timeline, whatever else it is asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import serving
import streams

from models import toys
from models.diarizer import FRAME, STEP, Profile, Spec
from models.separator import Separator
from models.speakers import Speakers
from server.app import create
from server.auth import ANONYMOUS
from server.config import Settings
from server.costs import Costs
from server.house import Place
from server.promise import for_file
from server.session import Session
from server.shelf import Loaded
from server.turns_out import options
from streaming import turns, wire
from streaming.entry import BEGINNING, Entry, entry
from streaming.framing import Array
from streaming.identity import Spoken
from streaming.turns import Turn

RATE = 16_000
PLAIN = {"gap_threshold_s": 0.1, "min_duration_s": 0.05}
END = json.dumps({"type": "end"})


@dataclass(frozen=True)
class Ears:
    """A diarizer of two people, one of whom speaks in a constant and the other in a tone of 1 kHz; or, `contrary`, where it
    is missing."""

    contrary: bool = False
    spec: Spec = Spec("ears", 2, {"0.16s": Profile(1, 1, 0, 1, 3)})

    def start(self, profile: str | Profile | None = None) -> Array:
        return np.zeros(0, np.float32)

    def run(self, pcm: Sequence[Array], states: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        held = [np.concatenate(pair) for pair in zip(states, pcm, strict=True)]
        known = [max((len(one) - STEP - 40) // STEP, 0) * STEP for one in held]
        told = [self._levels(one[:count]) for one, count in zip(held, known, strict=True)]
        return told, [one[count:].copy() for one, count in zip(held, known, strict=True)]

    def finish(self, state: Array) -> Array:
        return self._levels(np.pad(state, (0, -len(state) % FRAME)))

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        return 4 * (2 * STEP + 40)

    def _levels(self, pcm: Array) -> Array:
        frames = pcm.reshape(-1, FRAME)
        turning = np.exp(-2j * np.pi * 1000 / RATE * np.arange(FRAME))
        levels = np.stack((np.abs(frames.mean(1)), 2 * np.abs(frames @ turning) / FRAME), 1)
        return np.asarray(np.clip(1 - levels if self.contrary else levels, 0, 1), np.float32)


def talk(seconds: float, seed: int = 0, rate: int = RATE) -> tuple[Array, Array]:
    """`[1, T]` of the two, in turns and at once, and their probabilities `[F, 2]`, as a whole."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 100)
    levels = np.stack(
        [np.repeat(rng.random(count // 4 + 1) ** 2, rng.integers(4, 60, count // 4 + 1))[:count] for _ in "ab"]
    )
    samples = np.repeat(levels, rate // 100, 1)
    tone = np.cos(2 * np.pi * 1000 / rate * np.arange(samples.shape[1]))
    return (samples[0] + samples[1] * tone)[None].astype(np.float32), levels.T.astype(np.float32)


class Queues:
    """A transport of two queues: everything is said at once, and what comes back is kept."""

    def __init__(self, said: Sequence[str | bytes]) -> None:
        self.said, self.texts = list(said), list[dict[str, Any]]()
        self.all: list[dict[str, Any] | tuple[int, Array]] = []

    async def receive(self) -> str | bytes | None:
        if not self.said:
            await asyncio.Event().wait()
        return self.said.pop(0)

    async def send(self, message: str | bytes) -> None:
        self.all.append(json.loads(message) if isinstance(message, str) else serving.unpack(message))

    def expect(self, bytes_per_s: float) -> None:
        pass

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.all if isinstance(one, dict) and one["type"] == kind]

    @property
    def stems(self) -> list[tuple[int, Array]]:
        return [one for one in self.all if isinstance(one, tuple)]


def pair(mode: str, people: int = 2) -> Speakers:
    """What is told is what the diarizer tells: the outputs of this separator show two voices in any one."""
    return Speakers(toys.Split() if mode == "speakers" else None, Ears(), people=people, together=None)


async def hold(
    pcm: Array, mode: str = "speakers", told: int | None = None, sizes: Sequence[int] = (1600,), rate: int = RATE,
    marks: bool = False, separator: Separator | None = None, spoken: tuple[Spoken, ...] = (), **asked: Any,
) -> Queues:  # fmt: skip
    """A session from its place to `done`; from sample `told` on, as after a lost connection."""
    model = separator or pair(mode)
    house = create(Settings(preload=()), serving.toy_registry()).state.house
    loaded = Loaded("pair", model, Costs((model.spec.framing.window,), ((1,),), ((1e-4,),)))
    start = wire.Start("pair", rate, 1, "f32le", mode=mode, live=False, **asked)
    given = for_file(loaded, rate)
    at: Entry = BEGINNING if told is None else entry(given.plan, told, model.spec.memory)
    parts: list[str | bytes] = [
        part.T.astype("<f4").tobytes() for part in streams.chop(pcm[:, at.replay :], list(sizes))
    ]
    if marks:
        parts.insert(len(parts) // 2, json.dumps({"type": "mark", "id": "half"}))
    transport = Queues([*parts, END])
    try:
        await Session(transport, Place("s", ANONYMOUS, start, loaded, given, at, 0.0, spoken), house).run()
    finally:
        house.engine.close()
    return transport


def folded(events: Sequence[dict[str, Any]]) -> list[Turn]:
    held: dict[int, Turn] = {}
    for event in events:
        held |= {turn["id"]: Turn(**turn) for turn in event["turns"]}
        for id in event["dropped"]:
            del held[id]
    return sorted(held.values())


def expected(probs: Array, asked: dict[str, Any], rate: int, length: int) -> list[Turn]:
    return [
        Turn(one.id, one.speaker, one.start * rate // 100, min(one.end * rate // 100, length), True)
        for one in turns.whole(options(asked), probs)
    ]


@pytest.mark.parametrize("mode", ["speakers", "diarize"])
@pytest.mark.parametrize("sizes", [[1600], [1, 333, 0, 7000, 1279]])
async def test_events_tell_who_speaks_when(mode: str, sizes: list[int]) -> None:
    pcm, probs = talk(6)
    pcm = pcm[:, :-5]
    got = await hold(pcm, mode, sizes=sizes, speakers=PLAIN)
    events = got.of("speakers")
    assert len(events) > 5
    assert any(not turn["final"] for event in events for turn in event["turns"])
    assert folded(events) == expected(probs, PLAIN, RATE, pcm.shape[1])
    assert len(folded(events)) > 5
    told = [event["told"] for event in events]
    assert told == sorted(told)
    assert told[-1] == pcm.shape[1]
    assert events[-1]["active"] == []
    assert {slot for event in events for slot in event["active"]} == {0, 1}
    assert got.all[-1] == {"type": "done", "samples": pcm.shape[1]}


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
async def test_events_are_on_the_sessions_own_timeline(rate: int) -> None:
    """Resampling blurs the edges: to a frame or two."""
    pcm, probs = talk(4, seed=1, rate=rate)
    asked = {"gap_threshold_s": 0.2, "min_duration_s": 0.2}
    found, wanted = (
        folded((await hold(pcm, rate=rate, speakers=asked)).of("speakers")),
        expected(probs, asked, rate, pcm.shape[1]),
    )
    assert len(found) == len(wanted) > 3
    for one, other in zip(found, wanted, strict=True):
        assert one.speaker == other.speaker
        assert abs(one.start - other.start) <= rate // 50
        assert abs(one.end - other.end) <= rate // 50


async def test_events_come_before_the_tracks_that_they_are_about() -> None:
    pcm, _ = talk(4)
    got = await hold(pcm)
    told = out = 0
    for message in got.all:
        if isinstance(message, tuple):
            assert message[0] == out
            out += message[1].shape[2]
        elif message["type"] == "speakers":
            assert message["told"] >= out
            told = message["told"]
    assert told == out == pcm.shape[1]
    assert got.stems[0][1].shape[:2] == (2, 1)


async def test_without_audio_back_everything_else_is_as_ever() -> None:
    pcm, _ = talk(3)
    got = await hold(pcm, "diarize", marks=True)
    ready, stats = got.of("ready")[0], got.of("stats")[-1]
    assert (ready["mode"], ready["stems"], ready["diarizer"]) == ("diarize", [], "ears")
    assert ready["latency_samples"] >= pair("diarize").spec.framing.latency
    assert got.stems == []
    (mark,) = got.of("mark")
    assert mark["id"] == "half"
    assert (stats["heard"], stats["told"]) == (pcm.shape[1], pcm.shape[1])
    assert got.of("done") == [{"type": "done", "samples": pcm.shape[1]}]


async def test_without_audio_back_at_another_rate() -> None:
    pcm, probs = talk(3, rate=48_000)
    got = await hold(pcm, "diarize", rate=48_000)
    assert got.of("done") == [{"type": "done", "samples": pcm.shape[1]}]
    assert len(folded(got.of("speakers"))) == len(expected(probs, {}, 48_000, pcm.shape[1]))


@pytest.mark.parametrize("samples", [0, 100, 159, 5110])
async def test_a_short_stream(samples: int) -> None:
    pcm = np.ones((1, samples), np.float32)
    got = await hold(pcm, "diarize", speakers={"min_duration_s": 0})
    assert folded(got.of("speakers")) == ([Turn(0, 0, 0, samples, True)] if samples else [])
    assert got.of("done") == [{"type": "done", "samples": samples}]


async def test_what_a_model_hears_beyond_the_end_is_not_told() -> None:
    """It is given silence there, and some diarizers take silence for somebody."""
    got = await hold(np.ones((1, 4800), np.float32), separator=Speakers(toys.Split(), Ears(contrary=True), people=1))
    assert got.of("speakers") == []
    assert got.of("done") == [{"type": "done", "samples": 4800}]


async def test_a_session_that_goes_on_tells_what_comes_after() -> None:
    pcm, probs = talk(44)
    told = 38 * RATE + 123
    got = await hold(pcm, "diarize", told=told, speakers=PLAIN)
    ready = got.of("ready")[0]
    assert 7 * RATE < ready["replay_from"] < 9 * RATE
    events = got.of("speakers")
    assert min(event["told"] for event in events) > told
    wanted = {turn for turn in expected(probs, PLAIN, RATE, pcm.shape[1]) if turn.end > told}
    assert len(wanted) > 5
    assert wanted <= set(folded(events)), "ids too are those of the session that was cut off"


async def test_a_session_that_goes_on_at_its_very_end_tells_what_was_open() -> None:
    pcm = np.ones((1, 16_000), np.float32)
    got = await hold(pcm, "diarize", told=16_000)
    assert folded(got.of("speakers")) == [Turn(0, 0, 0, 16_000, True)]


async def test_options_of_turns_are_kept() -> None:
    pcm, probs = talk(8, seed=3)
    asked = {"exclude_overlaps": True, "min_duration_s": 0.3, "gap_threshold_s": 0.0, "onset": 0.3, "offset": 0.2}
    found = folded((await hold(pcm, "diarize", speakers=asked)).of("speakers"))
    assert found == expected(probs, asked, RATE, pcm.shape[1])
    assert found != expected(probs, {}, RATE, pcm.shape[1])
    assert all(before.end <= after.start for before, after in pairwise(found))


async def test_one_speaker_at_most() -> None:
    pcm, probs = talk(4)
    got = await hold(pcm, separator=pair("speakers", people=1), speakers={**PLAIN, "max": 1})
    assert folded(got.of("speakers")) == expected(probs[:, :1], PLAIN, RATE, pcm.shape[1])
    assert got.of("ready")[0]["stems"] == ["speaker_1"]


async def test_a_mix_of_the_speakers_by_their_gains() -> None:
    pcm, _ = talk(4)
    apart = await hold(pcm)
    mixed = await hold(pcm, output="mix", gains={"speaker_1": 0.0, "speaker_2": 2.0})
    assert mixed.of("ready")[0]["stems"] == ["mix"]
    assert mixed.of("speakers") == apart.of("speakers")
    both, one = (np.concatenate([stems for _, stems in got.stems], 2) for got in (apart, mixed))
    np.testing.assert_allclose(one[0], 2 * both[1], atol=1e-6)
    assert np.abs(one).max() > 0.5


async def test_nothing_is_told_of_who_speaks_unless_asked() -> None:
    got = await hold(talk(2)[0], "separate", separator=pair("speakers"))
    assert got.of("speakers") == []
    assert got.of("ready")[0]["mode"] == "separate"
    assert "diarizer" not in got.of("ready")[0]


async def test_a_model_that_cannot_tell_is_refused() -> None:
    with pytest.raises(wire.ClientError, match="got mode diarize, but pair does not tell who speaks") as error:
        await hold(talk(1)[0], "diarize", separator=toys.Split())
    assert error.value.code == "bad_message"


@pytest.mark.parametrize(
    ("asked", "onset", "offset"),
    [
        ({}, 0.5, 0.4),
        ({"onset": 0.3}, 0.3, 0.3),
        ({"offset": 0.6}, 0.6, 0.6),
        ({"onset": 0.7, "offset": 0.1}, 0.7, 0.1),
    ],
)
def test_the_threshold_that_is_not_given_follows_the_other(
    asked: dict[str, float], onset: float, offset: float
) -> None:
    assert (options(asked).onset, options(asked).offset) == (onset, offset)


class Numbered:
    """Numbers people as they come, like every diarizer: who is first in what it hears is 0, whoever it is."""

    spec = Spec("numbered", 2, {"0.16s": Profile(1, 1, 0, 1, 3)})

    def start(self, profile: str | Profile | None = None) -> tuple[Array, int | None]:
        return Ears().start(), None

    def run(self, pcm: Sequence[Array], states: Sequence[Any]) -> tuple[list[Array], list[Any]]:
        told, held = Ears().run(pcm, [state for state, _ in states])
        first = [
            known if known is not None or not (row > 0.5).any() else int((row > 0.5).any(0).argmax())
            for row, (_, known) in zip(told, states, strict=True)
        ]
        return [row[:, ::-1] if one == 1 else row for row, one in zip(told, first, strict=True)], list(
            zip(held, first, strict=True)
        )

    def finish(self, state: Any) -> Array:
        raise AssertionError("a composite hears silence at the end")

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        return Ears().state_bytes()


async def test_people_keep_their_numbers_and_tracks_over_a_lost_connection() -> None:
    """The second one speaks while the connection is lost, and is the first that is heard again."""
    levels = np.zeros((2, 2000), np.float32)
    for who, begin, end in ((0, 50, 500), (1, 600, 1400), (0, 1500, 1900)):
        levels[who, begin:end] = 0.8
    samples = np.repeat(levels, FRAME, 1)
    pcm = (samples[0] + samples[1] * np.cos(2 * np.pi * 1000 / RATE * np.arange(samples.shape[1])))[None]
    pcm = pcm.astype(np.float32)
    model = Speakers(toys.Split(), Numbered(), people=2, memory=4 * RATE)
    whole = await hold(pcm, separator=model)
    cut = 12 * RATE
    before = tuple(
        (turn.speaker, turn.start // FRAME, min(turn.end, cut) // FRAME) for turn in folded(whole.of("speakers"))
    )
    wrong = await hold(pcm, separator=model, told=cut)
    again = await hold(pcm, separator=model, told=cut, spoken=before[:2])
    assert [turn.speaker for turn in folded(wrong.of("speakers"))] == [0, 1]  # so the test would notice
    late = [turn for turn in folded(whole.of("speakers")) if turn.end > cut]
    assert [(turn.speaker, turn.end) for turn in folded(again.of("speakers"))] == [(t.speaker, t.end) for t in late]
    heard = np.concatenate([stems for _, stems in whole.stems], -1)
    told = np.concatenate([stems for _, stems in again.stems], -1)
    np.testing.assert_allclose(told, heard[..., cut:], atol=1e-4)
