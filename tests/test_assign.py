"""Routing separated sources to people, on sound whose right tracks are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import assign
from streaming.assign import FRAME, Options
from streaming.framing import Array


def voices(*spans: tuple[int, int], frames: int) -> tuple[Array, Array]:
    """People who speak in these frames: their sound `[N, T]`, each another noise, and what a sure diarizer says `[F, N]`."""
    rng = np.random.default_rng(0)
    sound = rng.standard_normal((len(spans), frames * FRAME)).astype(np.float32)
    probs = np.zeros((frames, len(spans)), np.float32)
    for person, (begin, end) in enumerate(spans):
        sound[person, : begin * FRAME] = sound[person, end * FRAME :] = 0
        probs[begin:end, person] = 1
    return sound, probs


def tracks(options: Options, sound: Array, sources: Array, probs: Array, evidence: assign.Evidence = ()) -> Array:
    """Everything at once, with silence after the end so that all of it is told."""
    rest = np.zeros((options.wait + 2, probs.shape[1]), np.float32)
    audio = np.concatenate((sound.sum(0, keepdims=True), sources))
    state = assign.start(options, len(sources), probs.shape[1])
    _, told = assign.push(
        options, state, np.pad(audio, ((0, 0), (0, 2 * FRAME))), np.concatenate((probs, rest)), evidence
    )
    return told[:, : sound.shape[1]]


def test_a_lone_voice_is_the_mixture_itself_and_silence_is_silent() -> None:
    sound, probs = voices((20, 60), (120, 180), frames=240)
    out = tracks(Options(), sound, sound[::-1] * 0.1, probs)
    np.testing.assert_allclose(out, sound, atol=1e-6)  # with the separated sources nowhere in it


def test_overlap_takes_the_source_that_carried_the_voice() -> None:
    sound, probs = voices((10, 120), (90, 200), frames=240)
    for order in ([0, 1], [1, 0]):
        out = tracks(Options(), sound, sound[order], probs)
        inside = slice(100 * FRAME, 110 * FRAME)
        np.testing.assert_allclose(out[:, inside], sound[:, inside], atol=1e-6)


def test_evidence_outweighs_where_the_voice_was_before() -> None:
    """A separator that swapped its outputs when the second voice came."""
    sound, probs = voices((10, 120), (90, 200), frames=240)
    sources = sound.copy()
    sources[:, 90 * FRAME :] = sound[::-1, 90 * FRAME :]
    heard = np.array([[0.4, 0.8], [0.8, 0.4]], np.float32)  # source 0 sounds like person 1
    inside = slice(100 * FRAME, 110 * FRAME)
    wrong = tracks(Options(), sound, sources, probs)
    right = tracks(Options(), sound, sources, probs, [(90, heard)])
    np.testing.assert_allclose(wrong[:, inside], sound[::-1, inside], atol=1e-6)
    np.testing.assert_allclose(right[:, inside], sound[:, inside], atol=1e-6)


def test_evidence_of_a_later_overlap_does_not_change_this_one() -> None:
    sound, probs = voices((10, 120), (90, 200), frames=240)
    later = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    out = tracks(Options(), sound, sound, probs, [(90, np.zeros((2, 2), np.float32)), (150, later)])
    inside = slice(100 * FRAME, 110 * FRAME)
    np.testing.assert_allclose(out[:, inside], sound[:, inside], atol=1e-6)


def test_the_routing_stays_amid_an_overlap_unless_another_is_clearly_better() -> None:
    sound, probs = voices((10, 190), (60, 200), frames=240)
    sure, faint = np.eye(2, dtype=np.float32), np.array([[0.0, 0.015], [0.0, 0.0]], np.float32)
    for after, switched in ((faint, False), (0.2 * np.eye(2, dtype=np.float32)[::-1], True)):
        out = tracks(Options(trust=0), sound, sound, probs, [(60, sure), (120, after)])
        inside = slice(140 * FRAME, 180 * FRAME)
        np.testing.assert_allclose(out[:, inside], sound[::-1, inside] if switched else sound[:, inside], atol=1e-6)


def test_a_third_voice_with_two_sources_is_silent_rather_than_doubled() -> None:
    sound, probs = voices((10, 100), (50, 100), (50, 100), frames=140)
    out = tracks(Options(), sound, sound[:2], probs)
    inside = out[:, 60 * FRAME : 90 * FRAME]
    assert sorted(np.abs(inside).max(1) > 0) == [False, True, True]


def test_a_hole_shorter_than_the_hangover_is_filled_from_its_nearer_side() -> None:
    sound, probs = voices((10, 40), (60, 90), frames=120)
    hum = np.full((1, sound.shape[1]), 0.5, np.float32)
    audio = sound + np.concatenate((hum, 0 * hum))
    out = tracks(Options(before=10, after=25), audio, audio, probs)
    middle = slice(41 * FRAME, 49 * FRAME)  # nearer to the first
    assert (out[0, middle] == 0.5).all()
    assert (out[1, middle] == 0).all()
    before = slice(55 * FRAME, 59 * FRAME)
    assert (out[1, before] == 0.5).all()  # the second one's first sound is not cut off


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 3000), max_size=12), st.lists(st.integers(0, 40), max_size=12))
def test_any_packets_give_the_same(samples: list[int], frames: list[int]) -> None:
    sound, probs = voices((10, 60), (40, 90), (70, 120), frames=130)
    audio = np.concatenate((sound.sum(0, keepdims=True), sound[:2]))
    expected = assign.push(Options(), whole := assign.start(Options(), 2, 3), audio, probs)[1]
    state, told = whole, []
    for count, more in zip([*samples, 10**6, 10**6], [*frames, *[0] * 20, 10**3], strict=False):
        state, out = assign.push(Options(), state, audio[:, :count], probs[:more])
        audio, probs = audio[:, count:], probs[more:]
        told.append(out)
    state, out = assign.push(Options(), state, audio, probs)
    np.testing.assert_allclose(np.concatenate((*told, out), 1), expected, atol=1e-6)


def test_all_is_told_within_the_declared_latency() -> None:
    options = Options(wait=30)
    sound, probs = voices((10, 60), frames=100)
    state = assign.start(options, 1, 1)
    for known in range(100):
        audio = np.concatenate((sound, sound))[:, known * FRAME : (known + 1) * FRAME]
        state, _ = assign.push(options, state, audio, probs[known : known + 1])
        told = max(state.frame - 1, 0) * FRAME
        assert known * FRAME - told <= options.latency


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"onset": 0.3}, "onset 0.3"),
        ({"before": 2}, "before 2"),
        ({"wait": 3}, "wait 3"),
        ({"together": -1}, "together -1"),
    ],
)
def test_options_that_cannot_be_are_named(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options(**wrong)  # type: ignore[arg-type]
