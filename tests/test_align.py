"""Alignment with known answers: every window's order is drawn, so the right one is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming import align, align_cues, align_people, matching
from streaming.align import State
from streaming.align_cues import Rules
from streaming.align_people import Pieces, found, remembered
from streaming.framing import Array

RATE, FRAME, HOP, WINDOW = 16000, 160, 8000, 16000
OVERLAP_ONLY = Rules(voice=0, activity=0)


def voices(count: int, seconds: float, seed: int = 0) -> Array:
    """`[P, T]`: different noises, each with a rhythm of its own."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    rows = [0.6 + 0.4 * np.sin(2 * np.pi * (1.1 + 0.6 * n) * time + n) for n in range(count)]
    return np.asarray(0.1 * np.stack(rows) * rng.standard_normal((count, len(time))), np.float32)


def turns(sound: Array, *spans: tuple[int, float, float]) -> Array:
    """Each person only in these spans of seconds."""
    heard = np.zeros_like(sound)
    for person, start, end in spans:
        part = slice(int(start * RATE), int(end * RATE))
        heard[person, part] = sound[person, part]
    return heard


def timbres(count: int, seed: int = 3) -> Array:
    """Embeddings of the people, `[P, 64]`: unlike each other, as unit vectors of so many dimensions are."""
    rows = np.random.default_rng(seed).standard_normal((count, 64)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def follow(
    true: Array,
    rules: Rules,
    orders: list[tuple[int, ...]],
    embed: bool = False,
    diarize: bool = False,
    leak: float = 0,
) -> tuple[list[tuple[int, ...]], State]:
    """The person on each track in each window, and the last state. `orders[k][s]`: who is source s of window k."""
    state, found, colours = State(), [], timbres(len(true))
    for index, order in enumerate(orders):
        part = true[:, index * HOP : index * HOP + WINDOW]
        level = np.square(part.reshape(len(part), -1, FRAME)).mean(2)
        part = part + leak * (part.sum(0) - part)
        state, heard = align.hear(rules, state, part[list(order)].astype(np.float32), FRAME)
        if embed:
            enough = np.stack((heard.said, heard.alone)).sum(2) >= rules.embed
            heard = replace(heard, embeddings=np.where(enough[:, :, None], colours[list(order)], 0).astype(np.float32))
        if diarize:
            heard = replace(heard, probs=(level > 1e-6).T.astype(np.float32)[:70])  # the rest has not been told yet
        state, tracks = align.align(rules, state, heard, HOP)
        np.testing.assert_array_equal(tracks, heard.sources[list(state.order)])
        found.append(tuple(order[source] for source in state.order))
    return found, state


def drawn(count: int, windows: int, seed: int = 1) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(range(count)), *(tuple(map(int, rng.permutation(count))) for _ in range(windows - 1))]


def counted(true: Array) -> int:
    return (true.shape[1] - WINDOW) // HOP + 1


# --- overlap ---


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_sources_that_swap_at_a_known_window(count: int) -> None:
    true = voices(count, 8)
    straight, turned = tuple(range(count)), (*range(1, count), 0)
    orders = [straight] * 6 + [turned] * (counted(true) - 6)
    found, state = follow(true, OVERLAP_ONLY, orders, leak=0.1)
    assert set(found) == {straight}
    assert (state.swaps, state.windows) == (1, len(orders))
    assert state.margin > 0.5


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_any_order_in_every_window_at_any_level(count: int, gain: float) -> None:
    true = voices(count, 12) * np.float32(gain)
    found, state = follow(true, OVERLAP_ONLY, drawn(count, counted(true)), leak=0.2)
    assert set(found) == {tuple(range(count))}
    assert state.swaps > 5


def test_one_silent_source() -> None:
    """Its output has a trace of the other's voice, which is as like it as the voice itself."""
    true = turns(voices(2, 10), (0, 0, 10))
    found, _ = follow(true, OVERLAP_ONLY, drawn(2, counted(true)), leak=0.06)
    assert set(found) == {(0, 1)}


def test_identical_sources_are_left_as_they_are() -> None:
    true = np.repeat(voices(1, 6), 2, axis=0)
    _, state = follow(true, OVERLAP_ONLY, [(0, 1)] * counted(true))
    assert (state.swaps, state.order) == (0, (0, 1))
    assert state.margin == pytest.approx(0, abs=1e-6)


def test_silence_in_the_overlap_says_nothing() -> None:
    true = turns(voices(2, 12), (0, 0, 3), (1, 7, 12))
    state, heard = align.hear(Rules(), State(), true[:, :WINDOW], FRAME)
    quiet, silent = align.hear(Rules(), state, true[:, 4 * RATE : 4 * RATE + WINDOW], FRAME)
    assert not silent.sound.any()
    assert not align_cues.overlap_cue(Rules(), true[:, :HOP], silent).any()
    _, margin = (
        quiet,
        align.align(Rules(), replace(quiet, tail=true[:, 3 * RATE : 3 * RATE + HOP]), silent, HOP)[0].margin,
    )
    assert margin == 0
    assert heard.sound.mean() > 0.9


def test_a_small_advantage_changes_nothing() -> None:
    scores = np.array([[0.50, 0.52], [0.52, 0.50]])
    assert align.decided(Rules(stay=0.1), (0, 1), scores) == (0, 1)
    assert align.decided(Rules(stay=0.01), (0, 1), scores) == (1, 0)
    assert align.decided(Rules(stay=0.1), (1, 0), scores) == (1, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 1000))
def test_cues_are_bounded(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = (rng.standard_normal((count, WINDOW)) * 10 ** rng.uniform(-4, 2, (count, 1))).astype(np.float32)
    state, heard = align.hear(Rules(), State(), sources, FRAME)
    tail = sources[rng.permutation(count)][:, :HOP] + np.float32(1e-3)
    cue = align_cues.overlap_cue(Rules(), tail, heard)
    assert cue.shape == (count, count)
    assert cue.min() >= 0
    assert cue.max() <= 1
    assert state.loudest > 0


# --- memory ---


@pytest.mark.parametrize("silence", [0.5, 1.0, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("cue", ["voice", "activity"])
def test_order_comes_back_after_a_silence(silence: float, cue: str) -> None:
    """Both outputs are silent for longer than windows overlap; then the other person speaks first, in the other output."""
    back = 8 + silence
    true = turns(voices(2, back + 8), (0, 0, 4), (1, 4, 8), (1, back, back + 4), (0, back + 4, back + 8))
    count = counted(true)
    first = int(back * RATE - WINDOW) // HOP + 1  # the first window with the new sound
    orders = [(0, 1)] * first + [(1, 0)] * (count - first)
    rules = Rules(voice=cue == "voice", activity=cue == "activity")
    found, state = follow(true, rules, orders, embed=cue == "voice", diarize=cue == "activity", leak=0.05)
    late = [who for index, who in enumerate(found) if index >= first + 3]
    assert set(late) == {(0, 1)}
    assert state.swaps == 1
    lost, _ = follow(true, OVERLAP_ONLY, orders, leak=0.05)
    if silence >= 1:
        assert set(lost[first:]) == {(1, 0)}  # what the cue is there for


def test_order_comes_back_window_by_window() -> None:
    """Turns of two to three seconds with silences between, three people, every window in another order."""
    rng, at, spans = np.random.default_rng(8), 0.5, []
    for turn in range(16):
        length = float(rng.uniform(2, 3))
        spans.append((turn % 3, at, at + length))
        at += length + float(rng.uniform(0.5, 3))
    true = turns(voices(3, at + 1), *spans)
    orders = drawn(3, counted(true))
    wrong = {}
    for name, rules in {"overlap": OVERLAP_ONLY, "three": Rules()}.items():
        found, _ = follow(true, rules, orders, embed=rules.voice > 0, diarize=rules.activity > 0, leak=0.1)
        loud = [np.square(true[:, k * HOP : k * HOP + WINDOW]).mean(1) > 1e-4 for k in range(len(orders))]
        own = most_common(found, loud)
        wrong[name] = sum(
            who.index(p) != own[p] for who, on in zip(found, loud, strict=True) for p in np.flatnonzero(on)
        )
    assert wrong["overlap"] > 10
    assert wrong["three"] <= wrong["overlap"] / 4


def most_common(found: list[tuple[int, ...]], loud: list[NDArray[np.bool_]]) -> list[int]:
    """Each person's track for most of the time."""
    on = np.zeros((3, 3), int)
    for who, there in zip(found, loud, strict=True):
        for person in np.flatnonzero(there):
            on[person, who.index(person)] += 1
    return list(max(permutations(range(3)), key=lambda way: sum(on[p, t] for p, t in enumerate(way))))


def pieces(*heard: tuple[int, float, int, int]) -> Pieces:
    """(person, frames, window, track), ..., each piece a little unlike the person's voice."""
    noise = 0.05 * np.random.default_rng(1).standard_normal((len(heard), 64))
    told = timbres(4)[[one[0] for one in heard]] + noise
    told = (told / np.linalg.norm(told, axis=1, keepdims=True)).astype(np.float32)
    _, frames, windows, tracks = (np.array(part) for part in zip(*heard, strict=True))
    return Pieces(told, frames.astype(np.float32), windows, tracks, np.zeros((len(heard), 0), np.float32))


def people(told: Pieces, tracks: int = 2) -> dict[int, int]:
    """The track of each person that is found."""
    rules = Rules()
    got = found(told, tracks, rules.alike, rules.least, rules.share)
    who = (got.voices @ timbres(4).T).argmax(1)
    return dict(zip(who.tolist(), got.tracks.tolist(), strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_groups_are_those_of_average_linkage(count: int, seed: int, alike: float) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    rng = np.random.default_rng(seed)
    rows = timbres(3)[rng.integers(0, 3, count)] + 0.12 * rng.standard_normal((count, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    got = align_people.groups(rows, alike)
    far = (1 - rows @ rows.T)[np.triu_indices(count, 1)].astype(float)
    expected = hierarchy.fcluster(hierarchy.linkage(far, "average"), 1 - alike, "distance") if count > 1 else np.ones(1)
    np.testing.assert_array_equal(got[:, None] == got, expected[:, None] == expected)


def test_people_are_found_in_pieces_and_keep_their_tracks() -> None:
    told = [(turn % 2, 120, turn, turn % 2) for turn in range(8)]
    assert people(pieces(*told)) == {0: 0, 1: 1}
    wrong = [(0, 120, 8, 1), (1, 120, 9, 0)]  # one swap is no new habit
    assert people(pieces(*told, *wrong)) == {0: 0, 1: 1}


def test_two_people_have_two_tracks_though_both_began_on_one() -> None:
    assert people(pieces((0, 200, 0, 0), (0, 200, 1, 0), (1, 150, 2, 0))) == {0: 0, 1: 1}


def test_who_meets_on_one_track_is_kept_apart() -> None:
    """Three people, two tracks: 0 and 2 were on one, until both spoke in windows 4 to 6."""
    told = [(0, 100, 0, 0), (0, 100, 1, 0), (1, 200, 2, 1), (1, 200, 3, 1), (2, 100, 7, 0)]
    assert people(pieces(*told)) == {0: 0, 1: 1, 2: 0}
    met = [piece for window in (4, 5, 6) for piece in ((0, 60, window, 0), (2, 60, window, 1))]
    assert people(pieces(*told, *met))[2] == 1


def test_who_was_hardly_heard_is_nobody_unless_nobody_else_was() -> None:
    assert people(pieces((0, 200, 0, 0), (1, 200, 1, 1), (2, 60, 2, 0))) == {0: 0, 1: 1}
    assert people(pieces((3, 50, 0, 1))).keys() == {3}


def test_only_the_last_pieces_are_remembered() -> None:
    told = None
    for window in range(9):
        told = remembered(told, pieces((window % 2, 100, window, 0)), 4)
    assert told is not None
    assert told.windows.tolist() == [5, 6, 7, 8]
    assert {len(part) for part in vars(told).values()} == {4}


def test_a_new_voice_goes_to_the_track_that_nobody_has() -> None:
    state, heard = align.hear(Rules(), State(), turns(voices(2, 1), (0, 0, 1)), FRAME)
    stranger = np.zeros((2, 2, 64), np.float32)
    stranger[:, 0] = timbres(4)[2]
    heard = replace(heard, embeddings=stranger)
    known = pieces(*((0, 150, window, 0) for window in range(3)))
    after, _ = align.align(Rules(), replace(state, pieces=known, order=(0, 1)), heard, HOP)
    assert after.order == (1, 0)


def test_more_people_than_tracks_share() -> None:
    bonds = np.float32([[9, 0, 4, 0], [1, 8, 5, 0]])
    assert align_cues.owners(bonds).tolist() == [0, 1, 1, -1]
    mixed = np.float32([[9, 6], [5, 4]])  # both were mostly on track 0, but two people have two tracks
    assert align_cues.owners(mixed).tolist() == [0, 1]


def test_voices_say_whose_track_a_person_of_the_diarizer_has() -> None:
    """Whom the diarizer took for one but who are two voices on two tracks, has none; hardly heard, hardly any."""
    told = [(turn % 2, 120, turn, turn % 2) for turn in range(6)]
    spoke = np.zeros((6, 4), np.float32)
    spoke[0::2, 0], spoke[:, 1], spoke[1, 2] = 100, 60, 50
    got = found(replace(pieces(*told), spoke=spoke), 2, Rules().alike, Rules().least, Rules().share)
    np.testing.assert_allclose(got.spoke.sum(0), spoke.sum(0))
    np.testing.assert_allclose(align_cues.confirmed(Rules(), got, 2), [[1, 0, -0.25, 0], [-1, 0, 0.25, 0]], atol=1e-6)


def test_a_diarizer_that_takes_all_for_one_says_nothing_beside_voices() -> None:
    true = turns(voices(2, 24), *((turn % 2, 2.0 * turn, 2.0 * turn + 2) for turn in range(12)))
    _, state = follow(true, Rules(), [(0, 1)] * counted(true), embed=True, diarize=True)
    assert state.pieces is not None
    assert state.bonds is not None
    pieces = replace(state.pieces, spoke=state.pieces.spoke.sum(1, keepdims=True))
    one = found(pieces, 2, Rules().alike, Rules().least, Rules().share)
    assert one.spoke.sum() > 500
    assert np.abs(align_cues.confirmed(Rules(), one, 2)).max() < 0.2
    assert np.abs(align_cues.owned(Rules(), state.bonds.sum(1, keepdims=True))).max() == 1  # by energy alone it would
    two = found(state.pieces, 2, Rules().alike, Rules().least, Rules().share)
    np.testing.assert_allclose(align_cues.confirmed(Rules(), two, 2), [[1, -1], [-1, 1]], atol=0.1)


def test_voices_are_counted_once_each() -> None:
    true = turns(voices(3, 24), *((turn % 3, 2.0 * turn, 2.0 * turn + 2) for turn in range(12)))
    _, state = follow(true, Rules(), [(0, 1, 2)] * counted(true), embed=True)
    assert state.pieces is not None
    got = found(state.pieces, 3, Rules().alike, Rules().least, Rules().share)
    assert sorted(got.tracks.tolist()) == [0, 1, 2]
    assert (timbres(3) @ got.voices.T).max(1).min() > 0.99


def test_a_state_is_a_value() -> None:
    true = voices(2, 4)
    rules = Rules()
    state, heard = align.hear(rules, State(), true[:, :WINDOW], FRAME)
    heard = replace(heard, embeddings=np.stack([timbres(2)] * 2), probs=np.ones((50, 4), np.float32))
    state, _ = align.align(rules, state, heard, HOP)
    first, one = align.align(rules, state, heard, HOP)
    second, two = align.align(rules, state, heard, HOP)
    np.testing.assert_array_equal(one, two)
    for left, right in zip(vars(first).values(), vars(second).values(), strict=True):
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        elif not isinstance(left, Pieces):
            assert left == right


def test_what_is_not_sound_does_no_harm() -> None:
    true = voices(3, 2)
    for bad in (np.nan, 0.0, 1e-30, 1e15):
        state, heard = align.hear(Rules(), State(), np.full_like(true[:, :WINDOW], bad), FRAME)
        state, tracks = align.align(Rules(), replace(state, tail=true[:, :HOP]), heard, HOP)
        assert tracks.shape == (3, WINDOW)
        assert sorted(state.order) == [0, 1, 2]


# --- matching ---


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000), st.booleans())
def test_the_best_order_is_the_best(count: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (count, count)).astype(float) if ties else rng.standard_normal((count, count))
    sums = {order: matching.total(scores, order) for order in permutations(range(count))}
    for order in (matching.best(scores), matching.hungarian(scores)):
        assert sums[order] == pytest.approx(max(sums.values()))
    best = matching.best(scores)
    column = int(rng.integers(count))
    others = [value for order, value in sums.items() if order.index(column) != best.index(column)]
    expected = sums[best] - max(others) if others else 0.0
    assert matching.margin(scores, best, [column]) == pytest.approx(expected)
    assert matching.margin(scores, best, []) == 0
