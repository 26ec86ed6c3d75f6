"""The Python client and who speaks: the message, the timeline that it makes, and connections that break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import rivulet_client
from hypothesis import given, settings
from hypothesis import strategies as st
from rivulet_client import Speakers, Timeline, Turn, codec
from rivulet_client.codec import Array
from rivulet_client.joint import Joint
from rivulet_client.testing import Behaviour, Peer

from streaming import rttm
from streaming.rttm import Segment

pytestmark = pytest.mark.usefixtures("no_pauses")

RATE = 8000
TOY: dict[str, Any] = {"rate": RATE, "channels": 1, "format": "f32le", "model": "speech"}
SCRIPT = ((0, 500, 3000), (1, 2500, 4100), (0, 4200, 5000))
ALL = Behaviour(stems=("speaker_1", "speaker_2"), tick=80, hold=200, turns=SCRIPT)
MESSAGE = {
    "type": "speakers", "told": 960, "active": [1], "dropped": [2],
    "turns": [{"id": 3, "speaker": 1, "start": 0, "end": 960, "final": False}],
}  # fmt: skip


def noise(samples: int) -> Array:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (1, samples)).astype(np.float32)


def spoken(timeline: Timeline) -> list[tuple[int, int, int]]:
    return [(turn.speaker, turn.start, turn.end) for turn in timeline.turns]


# --- the message


def test_the_message_is_read() -> None:
    assert codec.decode(json.dumps(MESSAGE)) == Speakers(960, (1,), (Turn(3, 1, 0, 960, False),), (2,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"told": -1}, "told"),
        ({"told": True}, "told"),
        ({"active": "all"}, "active"),
        ({"active": [0.5]}, "active"),
        ({"dropped": None}, "dropped"),
        ({"turns": [3]}, "list of objects"),
        ({"turns": [{"id": 3, "speaker": 1, "start": 0, "final": True}]}, "end of a turn"),
        ({"turns": [{"id": 3, "speaker": 1, "start": 9, "end": 8, "final": True}]}, "start before its end"),
        ({"turns": [{"id": 3, "speaker": 1, "start": 0, "end": 8, "final": 1}]}, "final or not"),
    ],
)
def test_a_message_that_is_none_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(rivulet_client.ProtocolError, match=said):
        codec.decode(json.dumps(MESSAGE | change))


def test_what_is_asked_for_goes_into_start() -> None:
    start = codec.Start("speech", RATE, 1, "s16le", mode="speakers", speakers={"max": 3, "exclude_overlaps": True})
    body = json.loads(codec.encode_start(start))
    assert (body["mode"], body["speakers"]) == ("speakers", {"max": 3, "exclude_overlaps": True})


# --- the timeline


def test_a_timeline_holds_what_was_told_last() -> None:
    timeline = Timeline()
    timeline.take(Speakers(800, (0,), (Turn(0, 0, 100, 800, False),), ()))
    timeline.take(Speakers(1600, (0, 1), (Turn(0, 0, 100, 1600, False), Turn(1, 1, 1200, 1600, False)), ()))
    assert (timeline.told, timeline.active, timeline.speakers) == (1600, (0, 1), [0, 1])
    assert [timeline.at(sample) for sample in (99, 100, 1300, 1600)] == [[], [0], [0, 1], []]
    timeline.take(Speakers(2400, (), (Turn(0, 0, 100, 1640, True),), (1,)))
    assert timeline.turns == [Turn(0, 0, 100, 1640, True)]


def test_a_timeline_as_files_is_what_the_server_reads() -> None:
    timeline = Timeline()
    timeline.take(Speakers(2400, (), (Turn(5, 1, 400, 1200, False), Turn(0, 0, 100, 1644, True)), ()))
    told = [Segment(100, 1644, "Ada Lovelace"), Segment(400, 1200, "speaker_2")]
    names = {0: "Ada Lovelace"}
    assert timeline.rttm(RATE, "a call", names) == rttm.write(told, RATE, "a call")
    assert timeline.json(RATE, "a call", names) == rttm.write_json(told, RATE, "a call")


# --- a session


async def test_events_come_with_the_stems_and_make_the_timeline() -> None:
    pcm, timeline, held = noise(6000), Timeline(), []
    async with Peer(ALL) as peer, rivulet_client.connect(peer.url, mode="speakers", **TOY) as stream:
        assert (stream.ready.mode, stream.ready.stems) == ("speakers", ALL.stems)
        await stream.send(pcm)
        await stream.end()
        async for event in stream:
            if isinstance(event, Speakers):
                held.append(stream.received)
                timeline.take(event)
    assert peer.starts[0]["mode"] == "speakers"
    assert spoken(timeline) == list(SCRIPT)
    assert all(turn.final for turn in timeline.turns)
    assert held == sorted(held)
    assert held[0] < 1000, "they come in the midst of the stems"


async def test_a_short_turn_is_dropped() -> None:
    timeline, seen = Timeline(), set()
    behaviour = Behaviour(stems=("speaker_1",), tick=80, turns=((0, 100, 300), (0, 1000, 3000)), shortest=400)
    async with Peer(behaviour) as peer, rivulet_client.connect(peer.url, mode="speakers", **TOY) as stream:
        await stream.send(noise(4000))
        await stream.end()
        async for event in stream:
            if isinstance(event, Speakers):
                timeline.take(event)
                seen |= set(spoken(timeline))
    assert {(0, 100, 160), (0, 100, 240)} <= seen
    assert spoken(timeline) == [(0, 1000, 3000)]


async def test_who_speaks_without_stems() -> None:
    timeline = Timeline()
    async with Peer(ALL) as peer, rivulet_client.connect(peer.url, mode="diarize", **TOY) as stream:
        assert stream.ready.stems == ()
        await stream.send(noise(3 * RATE))
        await stream.mark("here")
        await stream.end()
        events = [event async for event in stream]
    for event in events:
        if isinstance(event, Speakers):
            timeline.take(event)
    assert not [event for event in events if isinstance(event, rivulet_client.Stems)]
    assert events[-1] == rivulet_client.Done(3 * RATE)
    assert rivulet_client.Mark("here", 3 * RATE) in events
    assert stream.received == 3 * RATE
    assert spoken(timeline) == list(SCRIPT)


@pytest.mark.parametrize("mode", ["speakers", "diarize"])
async def test_separate_fills_a_timeline(mode: Any) -> None:
    timeline, frames = Timeline(), 0
    async with Peer(ALL) as peer, asyncio.timeout(60):
        source = [noise(RATE)] * 20  # more than may be out at once
        wanted = {**TOY, "mode": mode, "timeline": timeline}
        async with aclosing(rivulet_client.separate(peer.url, source, ahead=1.0, **wanted)) as chunks:
            async for chunk in chunks:
                frames += chunk.frames
    assert frames == (20 * RATE if mode == "speakers" else 0)
    assert spoken(timeline) == list(SCRIPT)


async def test_a_new_session_goes_on_with_the_timeline() -> None:
    script = ((0, 500, 60_000), (1, 2500, 4100))
    behaviour = Behaviour(
        stems=("speaker_1",), tick=80, hold=200, resume=False, drop_after=60_000, drops=1, turns=script
    )
    timeline = Timeline()

    async def source() -> AsyncIterator[Array]:
        for _ in range(40):
            yield noise(1000)

    async with Peer(behaviour) as peer, asyncio.timeout(60):
        wanted = {**TOY, "mode": "speakers", "timeline": timeline, "reconnect": True}
        starts = [chunk.start async for chunk in rivulet_client.separate(peer.url, source(), ahead=0.2, **wanted)]
    assert len(peer.starts) == 2
    assert starts == sorted(set(starts))
    assert all(turn.final for turn in timeline.turns)
    assert max(turn.end for turn in timeline.turns) == 40_000
    new = [turn for turn in timeline.turns if turn.speaker == 1]
    assert len(new) == 2, "the script begins again with the session"
    assert new[1].start - new[0].start > 10_000


# --- connections that break


@st.composite
def scripts(draw: st.DrawFn) -> tuple[tuple[int, int, int], ...]:
    """Turns of three people, each person's apart from one another."""
    turns = []
    for speaker in range(3):
        at = 0
        for gap, length in draw(st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 2500)), max_size=4)):
            turns.append((speaker, at + gap, at + gap + length))
            at += gap + length
    return tuple(turns)


@settings(max_examples=60, deadline=None)
@given(
    script=scripts(),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    packet=st.integers(40, 1500),
    memory=st.sampled_from([0, 1, 333, 2000, 100_000]),
    mode=st.sampled_from(["speakers", "diarize"]),
)
async def test_lost_connections_leave_no_trace_on_the_timeline(
    script: tuple[tuple[int, int, int], ...], cuts: list[int], packet: int, memory: int, mode: Any
) -> None:
    behaviour = Behaviour(stems=("a", "b"), tick=80, hold=200, cuts=tuple(cuts), memory=memory, turns=script)
    samples, timeline, final = 8000, Timeline(), {}
    async with Peer(behaviour) as peer, rivulet_client.connect(peer.url, mode=mode, retries=9, **TOY) as stream:

        async def talk() -> None:
            pcm = noise(samples)
            for at in range(0, samples, packet):
                await stream.send(pcm[:, at : at + packet])
            await stream.end()

        talking = asyncio.create_task(talk())
        async for event in stream:
            if isinstance(event, Speakers):
                for turn in event.turns:
                    assert turn.id not in final, "what is final changes no more"
                    assert turn.end <= event.told
                    final |= {turn.id: turn} if turn.final else {}
                assert event.told >= timeline.told
                timeline.take(event)
        await talking
    expected = sorted((start, speaker, min(end, samples)) for speaker, start, end in script if start < samples)
    assert [(turn.start, turn.speaker, turn.end) for turn in timeline.turns] == expected
    assert timeline.turns == sorted(final.values(), key=lambda turn: (turn.start, turn.speaker))


def test_ids_go_on_whatever_the_next_server_counts_from() -> None:
    joint = Joint()
    joint.take(Speakers(1000, (0,), (Turn(0, 0, 0, 400, True), Turn(1, 0, 500, 1000, False)), ()))
    joint.broken()
    replay = (Turn(0, 0, 120, 400, True), Turn(1, 0, 500, 800, False))  # a part of it once more
    assert joint.take(Speakers(800, (0,), replay, ())) is None
    on = joint.take(Speakers(1500, (0, 1), (Turn(1, 0, 510, 1200, True), Turn(2, 1, 1100, 1500, False)), ()))
    assert on == Speakers(1500, (0, 1), (Turn(1, 0, 500, 1200, True), Turn(2, 1, 1100, 1500, False)), ())
    joint.broken()
    again = joint.take(Speakers(1600, (0,), (Turn(0, 0, 1500, 1600, False),), ()))
    assert again == Speakers(1600, (0,), (Turn(3, 0, 1500, 1600, False), Turn(2, 1, 1100, 1500, True)), ())
    assert joint.take(Speakers(1700, (), (), (0,))) == Speakers(1700, (), (), (3,))
    assert joint.end() is None


def test_of_a_long_turn_that_was_cut_the_rest_may_be_short() -> None:
    joint = Joint()
    joint.take(Speakers(1000, (0,), (Turn(0, 0, 0, 1000, False),), ()))
    joint.broken()
    joint.take(Speakers(1010, (0,), (Turn(0, 0, 1000, 1010, False),), ()))
    assert joint.take(Speakers(1100, (), (), (0,))) == Speakers(1100, (), (Turn(0, 0, 0, 1010, True),), ())


def test_what_is_open_at_the_end_is_final() -> None:
    joint = Joint()
    joint.take(Speakers(1000, (0,), (Turn(0, 0, 0, 1000, False),), ()))
    joint.broken()
    assert joint.end() == Speakers(1000, (), (Turn(0, 0, 0, 1000, True),), ())
    assert joint.end() is None
