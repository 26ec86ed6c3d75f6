"""Online clustering of voices on planted data, where the right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator

from streaming import clusters
from streaming.clusters import Heard, Options, State
from streaming.framing import Array

WIDTH = 32
OPTIONS = Options(speech=0.5, pure=0.5, known=0.6, new=0.5, pieces=3, alike=0.5, patience=20, same=0.9, most=20)


def voices(rng: Generator, people: int) -> Array:
    """Voices at right angles."""
    return np.linalg.qr(rng.standard_normal((WIDTH, people)))[0].T.astype(np.float32)


def window(rng: Generator, voice: Array, noise: float = 0.08) -> Array:
    heard = voice + noise * rng.standard_normal(WIDTH)
    return np.asarray(heard / np.linalg.norm(heard), np.float32)


def judged(state: State, voice: Array, speech: float = 1.0, pure: float = 1.0) -> Heard:
    """What a judge who goes by the cosine alone would say."""
    return Heard(voice, speech, pure, np.clip(state.centroids @ voice, 0, 1))


def listen(state: State, heard: list[Array], options: Options = OPTIONS) -> State:
    for voice in heard:
        state = clusters.observe(options, state, judged(state, voice))
    return state


def test_people_come_in_the_order_in_which_they_spoke() -> None:
    rng = np.random.default_rng(0)
    people = voices(rng, 4)
    talk = [window(rng, people[who]) for who in (2, 2, 2, 0, 0, 0, 0, 2, 3, 3, 3, 1, 1, 1, 0, 2)]
    state = listen(clusters.start(6, WIDTH), talk)
    assert state.counts.tolist() == [5, 5, 3, 3, 0, 0]
    found = state.centroids[:4] @ people.T
    assert found.argmax(1).tolist() == [2, 0, 3, 1]
    assert found.max(1).min() > 0.9
    assert not len(state.pieces)


def test_the_first_voice_is_somebody_at_once_and_others_wait_for_company() -> None:
    rng = np.random.default_rng(1)
    people = voices(rng, 2)
    state = listen(clusters.start(3, WIDTH), [window(rng, people[0])])
    assert state.counts.tolist() == [1, 0, 0]
    for pieces in (1, 2):
        state = listen(state, [window(rng, people[1])])
        assert state.counts.tolist() == [1, 0, 0]
        assert len(state.pieces) == pieces
    state = listen(state, [window(rng, people[1])])
    assert state.counts.tolist() == [1, 3, 0]


def test_voices_that_nobody_joins_are_forgotten() -> None:
    rng = np.random.default_rng(2)
    people = voices(rng, 30)
    state = listen(clusters.start(8, WIDTH), [people[0], *people[1:]])
    assert state.counts.sum() == 1  # each of the others was heard once
    assert len(state.pieces) == OPTIONS.patience
    state = listen(state, [window(rng, people[0]) for _ in range(OPTIONS.patience + 1)])
    assert not len(state.pieces)


@pytest.mark.parametrize("change", [{"speech": 0.4}, {"pure": 0.4}])
def test_faint_and_mixed_windows_teach_nothing(change: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    people = voices(rng, 2)
    state = listen(clusters.start(3, WIDTH), [window(rng, people[0]) for _ in range(4)])
    for voice in (people[0], people[1]):
        after = clusters.observe(OPTIONS, state, judged(state, voice, **change))
        assert np.array_equal(after.sums, state.sums)
        assert not len(after.pieces)


def test_a_doubtful_window_neither_teaches_nor_founds() -> None:
    rng = np.random.default_rng(4)
    people = voices(rng, 2)
    state = listen(clusters.start(3, WIDTH), [people[0]])
    doubtful = Heard(people[1], 1.0, 1.0, np.array([0.55, 0, 0], np.float32))
    after = clusters.observe(OPTIONS, state, doubtful)
    assert np.array_equal(after.sums, state.sums)
    assert not len(after.pieces)


def test_two_who_are_one_become_the_first_and_nobody_else_moves() -> None:
    rng = np.random.default_rng(5)
    people = voices(rng, 3)
    talk = [window(rng, people[who], 0.02) for who in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    state = listen(clusters.start(4, WIDTH), talk)
    sums = state.sums.copy()
    sums[1] = 3 * (0.99 * people[0] + 0.1 * people[1])  # the second was the first all along
    state = listen(replace(state, sums=sums), [people[0]])
    assert state.counts.tolist() == [7, 0, 3, 0]
    assert state.centroids[2] @ people[2] > 0.95
    new = np.asarray(-people[1], np.float32)
    state = listen(state, [new, new, new])
    assert state.counts.tolist() == [7, 3, 3, 0]  # the free slot is the next newcomer's


def test_with_no_slot_left_a_newcomer_founds_nothing() -> None:
    rng = np.random.default_rng(6)
    people = voices(rng, 3)
    talk = [window(rng, people[who]) for who in (0, 0, 1, 1, 1, 2, 2, 2, 2)]
    state = listen(clusters.start(2, WIDTH), talk)
    assert state.counts.tolist() == [2, 3]
    assert (state.centroids @ people[2]).max() < 0.3


def test_a_centroid_follows_a_voice_that_changes() -> None:
    rng = np.random.default_rng(7)
    first, second = voices(rng, 2)
    state = listen(clusters.start(2, WIDTH), [first] * 200)
    assert state.counts[0] == OPTIONS.most
    for share in np.linspace(0, 1, 200):
        state = listen(state, [window(rng, np.asarray(np.cos(share) * first + np.sin(share) * second), 0.0)])
    assert state.counts[0] == OPTIONS.most
    assert state.centroids[0] @ second > 0.7
    assert 0.9 < state.coherence[0] <= 1.001


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 8))
def test_whatever_comes_a_state_is_a_value_and_stays_small(seed: int, people: int, slots: int) -> None:
    rng = np.random.default_rng(seed)
    known, state = voices(rng, people), clusters.start(slots, WIDTH)
    most = clusters.start(slots, WIDTH).bytes + OPTIONS.patience * (4 * WIDTH + 8)
    for _ in range(120):
        voice = window(rng, known[rng.integers(people)], float(rng.choice((0.05, 0.3))))
        heard = judged(state, voice, float(rng.random() * 2), float(rng.random() * 2))
        before = [part.copy() for part in vars(state).values()]
        after = clusters.observe(OPTIONS, state, heard)
        assert all(np.array_equal(one, part) for one, part in zip(before, vars(state).values(), strict=True))
        state = after
        assert state.bytes <= most
        assert np.isfinite(state.sums).all()
        lengths = np.linalg.norm(state.centroids, axis=1)
        assert np.allclose(lengths[state.live], 1, atol=1e-5)
        assert not lengths[~state.live].any()
