"""From probabilities to turns: against an oracle that knows the whole recording, and while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import turns
from streaming.framing import Array
from streaming.turns import Events, Options, Turn

LEVELS = st.integers(0, 16)  # sixteenths: sums and differences are exact


@st.composite
def recordings(draw: st.DrawFn) -> Array:
    """`[F, S]`: stretches of constant probability, as of speech, with noise between them."""
    speakers = draw(st.integers(1, 3))
    columns = []
    length = draw(st.integers(0, 40))
    for _ in range(speakers):
        runs = draw(st.lists(st.tuples(LEVELS, st.integers(1, 8)), max_size=12))
        values = [level for level, count in runs for _ in range(count)]
        columns.append((values + [0] * length)[:length])
    return np.asarray(np.array(columns, np.float32).T / 16, np.float32).reshape(length, speakers)


choices = st.builds(
    lambda high, low, exclusive, counts: Options(
        max(high, low) / 16, min(high, low) / 16, *counts, exclude_overlaps=exclusive
    ),
    st.integers(1, 15),
    st.integers(1, 15),
    st.booleans(),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.integers(0, 8)),
)


# --- the oracle


def above(options: Options, column: Sequence[float]) -> list[bool]:
    out: list[bool] = []
    for value in column:
        out.append(value >= options.offset if out and out[-1] else value > options.onset)
    return out


def one_at_a_time(masks: list[list[bool]], probs: Array) -> list[list[bool]]:
    holder, out = None, [[False] * len(probs) for _ in masks]
    for n in range(len(probs)):
        rivals = [k for k, mask in enumerate(masks) if mask[n]]
        if holder not in rivals or max(probs[n, k] for k in rivals) - probs[n, holder] > turns.CLEARLY:
            holder = max(rivals, key=lambda k: (probs[n, k], -k)) if rivals else None
        if holder is not None:
            out[holder][n] = True
    return out


def intervals(mask: Sequence[bool]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.array([False, *mask, False]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def oracle(options: Options, probs: Array) -> list[Turn]:
    """With the end known: intervals, padded, joined over short gaps, the short ones left out."""
    total = len(probs)
    masks = [above(options, column) for column in probs.T]
    if options.exclude_overlaps:
        found = exclusive(options, one_at_a_time(masks, probs), total)
    else:
        found = [turn for k, mask in enumerate(masks) for turn in joined(options, k, mask, total)]
    kept = [turn for turn in found if turn.end - turn.start >= options.min_duration]
    return sorted(kept)


def joined(options: Options, speaker: int, mask: list[bool], total: int) -> list[Turn]:
    out: list[tuple[int, int, int]] = []
    for begin, end in intervals(mask):
        padded = (begin - options.pad_onset, end + options.pad_offset)
        if out and padded[0] - out[-1][2] <= options.gap:
            out[-1] = (*out[-1][:2], padded[1])
        else:
            out.append((begin, *padded))
    return [Turn(8 * raw + speaker, speaker, max(a, 0), min(b, total), True) for raw, a, b in out]


def exclusive(options: Options, masks: list[list[bool]], total: int) -> list[Turn]:
    """Everybody's intervals follow one another; a padding ends where the next begins, a gap is closed within one's own."""
    pieces = sorted((begin, end, k) for k, mask in enumerate(masks) for begin, end in intervals(mask))
    out: list[Turn] = []
    for begin, end, speaker in pieces:
        if out:
            free = min(out[-1].end + options.pad_offset, begin)
            gap = begin - options.pad_onset - (out[-1].end + options.pad_offset)
            if out[-1].speaker == speaker and gap <= options.gap:
                out[-1] = replace(out[-1], end=end)
                continue
            out[-1] = replace(out[-1], end=free)
        earliest = out[-1].end if out else 0
        out.append(Turn(8 * begin + speaker, speaker, max(begin - options.pad_onset, earliest), end, True))
    if out:
        out[-1] = replace(out[-1], end=min(out[-1].end + options.pad_offset, total))
    return out


# --- what a client holds


@dataclass
class Held:
    """Every event, folded, and held to what is promised of them."""

    turns: dict[int, Turn] = field(default_factory=dict)
    told: int = 0
    newest: int = -1

    def take(self, events: Events) -> None:
        assert events.told >= self.told
        self.told = events.told
        for turn in events.turns:
            assert turn.start < turn.end <= events.told
            if before := self.turns.get(turn.id):
                assert not before.final
                assert (before.speaker, before.start) == (turn.speaker, turn.start)
                assert turn.end > before.end or (turn.final and turn.end == before.end)
            else:
                assert turn.id > self.newest
                self.newest = turn.id
            self.turns[turn.id] = turn
        for id in events.dropped:
            assert not self.turns.pop(id).final


def stream(options: Options, probs: Array, sizes: Sequence[int]) -> tuple[Held, list[Events]]:
    held, said = Held(), []
    state, at = turns.start(options, max(probs.shape[1], 1)), 0
    for size in [*sizes, len(probs)]:
        state, events = turns.push(options, state, probs[at : at + size])
        at += size
        held.take(events)
        said.append(events)
    state, events = turns.finish(options, state)
    held.take(events)
    assert events.active == ()
    assert turns.finish(options, state)[1] == Events(len(probs))
    return held, [*said, events]


@settings(max_examples=400, deadline=None)
@given(choices, recordings(), st.lists(st.integers(0, 9), max_size=12))
def test_what_is_final_is_what_the_whole_recording_says_however_it_came(
    options: Options, probs: Array, sizes: list[int]
) -> None:
    held, _ = stream(options, probs, sizes)
    expected = oracle(options, probs)
    assert sorted(held.turns.values()) == expected
    assert turns.whole(options, probs) == expected


@settings(max_examples=150, deadline=None)
@given(choices, recordings())
def test_frame_by_frame_every_promise_is_kept(options: Options, probs: Array) -> None:
    held, said = stream(options, probs, [1] * len(probs))
    assert sorted(held.turns.values()) == oracle(options, probs)
    for n, events in enumerate(said[: len(probs)]):
        masks = [above(options, column) for column in probs.T]
        masks = one_at_a_time(masks, probs) if options.exclude_overlaps else masks
        assert events.active == tuple(k for k, mask in enumerate(masks) if mask[n])
        for turn in events.turns:  # a turn is final as soon as nothing can be joined to it, not later
            assert turn.final or n + 1 <= last_frame(turn, masks, n) + options.wait


def last_frame(turn: Turn, masks: list[list[bool]], now: int) -> int:
    return max(n for n in range(now + 1) if masks[turn.speaker][n]) + 1


@settings(max_examples=200, deadline=None)
@given(choices, recordings())
def test_without_overlaps_each_moment_belongs_to_one_at_most(options: Options, probs: Array) -> None:
    held, _ = stream(replace(options, exclude_overlaps=True, min_duration=0), probs, [3] * 20)
    final = sorted(held.turns.values())
    for before, after in pairwise(final):
        assert before.end <= after.start
    padding = options.pad_onset + options.pad_offset + options.gap
    if not padding:  # and nothing is lost: where anybody spoke, somebody does
        covered = {frame for turn in final for frame in range(turn.start, turn.end)}
        spoke = np.array([above(options, column) for column in probs.T]).reshape(probs.shape[1], -1).any(0)
        assert covered == set(np.flatnonzero(spoke).tolist())


# --- known answers


def voice(*parts: tuple[float, int]) -> Array:
    return np.repeat([value for value, _ in parts], [count for _, count in parts]).astype(np.float32)[:, None]


def test_a_turn_begins_above_onset_and_ends_below_offset() -> None:
    probs = voice((0.5, 3), (0.6, 2), (0.4, 4), (0.39, 3), (0.45, 5))
    assert turns.whole(Options(0.5, 0.4), probs) == [Turn(24, 0, 3, 9, True)]


def test_a_turn_that_is_too_short_is_told_and_then_dropped() -> None:
    options = Options(gap=2, min_duration=5)
    state, first = turns.push(options, turns.start(options, 1), voice((0, 4), (1, 3)))
    assert (first.active, first.turns) == ((0,), (Turn(32, 0, 4, 7, False),))
    state, second = turns.push(options, state, voice((0, 2)))
    assert second == Events(9), "a pause of two frames may still be closed"
    _, third = turns.push(options, state, voice((0, 1)))
    assert third == Events(10, (), (), (32,))
    _, closed = turns.push(options, state, voice((1, 3)))
    assert closed.turns == (Turn(32, 0, 4, 12, False),)


def test_padding_is_told_when_it_has_come_and_ends_with_the_recording() -> None:
    options = Options(pad_onset=2, pad_offset=3)
    state, events = turns.push(options, turns.start(options, 1), voice((0, 1), (1, 4), (0, 1)))
    assert events.turns == (Turn(8, 0, 0, 6, False),)
    assert turns.finish(options, state)[1].turns == (Turn(8, 0, 0, 6, True),)


def test_two_sure_voices_do_not_share_the_floor_by_noise() -> None:
    rng = np.random.default_rng(1)
    probs = (0.95 + 0.04 * rng.random((200, 2))).astype(np.float32)
    probs[:20, 1] = probs[150:, 0] = 0
    assert turns.whole(Options(exclude_overlaps=True), probs) == [
        Turn(0, 0, 0, 150, True),
        Turn(1201, 1, 150, 200, True),
    ]


def test_the_floor_goes_to_who_is_clearly_more_probable() -> None:
    probs = np.array([[0.6, 0.55]] * 5 + [[0.6, 0.9]] * 5 + [[0.6, 0.1]] * 5, np.float32)
    assert [(turn.speaker, turn.start, turn.end) for turn in turns.whole(Options(exclude_overlaps=True), probs)] == [
        (0, 0, 5),
        (1, 5, 10),
        (0, 10, 15),
    ]


def test_after_a_silence_nobody_has_the_floor() -> None:
    probs = np.array([[0.9, 0], [0, 0], [0.85, 0.9]], np.float32)
    assert [turn.speaker for turn in turns.whole(Options(exclude_overlaps=True), probs)] == [0, 1]
    assert [turn.speaker for turn in turns.whole(Options(exclude_overlaps=True), probs[[0, 2]])] == [0]


def test_a_stream_that_goes_on_gives_its_turns_the_same_ids() -> None:
    rng = np.random.default_rng(3)
    probs = np.repeat(rng.random((60, 3)), 7, 0).astype(np.float32)
    options = Options(gap=5, min_duration=3)
    everything = turns.whole(options, probs)
    state, events = turns.push(options, turns.start(options, 3, first=200), probs[200:])
    again = [*events.turns, *turns.finish(options, state)[1].turns]
    settled = {turn for turn in everything if turn.start >= 220}
    assert len(settled) > 10
    assert settled <= {turn for turn in again if turn.final}


def test_columns_beyond_the_speakers_are_left_out_and_nan_is_silence() -> None:
    probs = np.ones((10, 3), np.float32)
    probs[4:6, 0] = np.nan
    state, events = turns.push(Options(), turns.start(Options(), 2), probs)
    assert events.active == (0, 1)
    assert {turn.speaker for turn in events.turns} == {0, 1}
    assert [(turn.start, turn.end, turn.final) for turn in events.turns if turn.speaker == 0] == [
        (0, 4, True),
        (6, 10, False),
    ]
    assert len(state.open) == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"onset": 0.3, "offset": 0.4}, "got onset 0.3 and offset 0.4, expected 0 < offset <= onset < 1"),
        ({"onset": 1.0}, "onset 1"),
        ({"offset": 0.0}, "offset 0"),
        ({"gap": -1}, "got gap -1"),
        ({"pad_onset": -2}, "got pad_onset -2"),
    ],
)
def test_options_that_cannot_be(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options(**wrong)  # type: ignore[arg-type]


def test_speakers_that_cannot_be() -> None:
    for count in (0, 9):
        with pytest.raises(ValueError, match=f"got {count} speakers, expected 1 to 8"):
            turns.start(Options(), count)
