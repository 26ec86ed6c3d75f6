"""A second person by what a separator's outputs show: known outputs, known probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from streaming import overlap
from streaming.framing import Array
from streaming.overlap import AROUND, FRAME, Options

FRAMES = 400
LOUD, TRACE = 0.1, 0.001


def outputs(*levels: float) -> Array:
    """`[S, T]`: noise at these levels."""
    rng = np.random.default_rng(0)
    return np.stack([level * rng.standard_normal(FRAMES * FRAME) for level in levels]).astype(np.float32)


def probs(*people: float) -> Array:
    return np.tile(np.float32(people), (FRAMES - AROUND - 1, 1))


def told(sources: Array, given: Array, step: int = 40) -> tuple[overlap.State, Array]:
    """Everything, the outputs a second ahead of the probabilities, as a live session has them."""
    state, out, heard = overlap.start(len(sources)), [], 0
    for at in range(0, len(given), step):
        until = (at + step + 100) * FRAME
        state = overlap.hear(state, sources[:, heard:until])
        state, some = overlap.tell(Options(), state, given[at : at + step])
        out.append(some)
        heard = until
    return state, np.concatenate(out)


def test_two_loud_outputs_are_two_people() -> None:
    _, out = told(outputs(LOUD, LOUD), probs(0.9, 0.2, 0.01))
    assert (out[:, 1] > 0.5).all()
    assert (out[:, 0] >= 0.9).all()
    np.testing.assert_array_equal(out[:, 2], np.float32(0.01))
    _, unsure = told(outputs(LOUD, LOUD), probs(0.4, 0.35))
    assert (unsure[:, 0] > unsure[:, 1]).all()  # whoever was first stays so
    assert (unsure > 0.5).all()


@pytest.mark.parametrize(
    ("sources", "given"),
    [
        ((LOUD, TRACE), (0.9, 0.2)),  # one voice and its trace
        ((LOUD, LOUD), (0.2, 0.15)),  # nobody speaks, by the diarizer
        ((LOUD, LOUD / 3), (0.9, 0.0)),  # a second person is out of the question
        ((LOUD, LOUD), (0.9,)),  # nobody else is there
    ],
)
def test_who_speaks_alone_is_left_alone(sources: tuple[float, ...], given: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(told(outputs(*sources), probs(*given))[1], probs(*given))


def test_what_is_left_in_pauses_is_no_second_person() -> None:
    """After a loud second both outputs have the same hum, 40 dB below."""
    sources = outputs(LOUD, LOUD)
    sources[:, 150 * FRAME :] *= 0.01
    out = told(sources, probs(0.9, 0.2))[1]
    assert (out[:100, 1] > 0.5).all()
    assert (out[200:, 1] < 0.5).all()


def test_any_steps_tell_the_same() -> None:
    rng = np.random.default_rng(1)
    sources = outputs(LOUD, LOUD) * np.repeat(10 ** -rng.uniform(0, 2, (2, FRAMES // 20)), 20 * FRAME, 1)
    given = rng.uniform(0, 1, (FRAMES - AROUND - 1, 4)).astype(np.float32)
    whole = told(sources.astype(np.float32), given, len(given))[1]
    assert (whole > given).any()
    for step in (1, 7, 40):
        np.testing.assert_allclose(told(sources.astype(np.float32), given, step)[1], whole, atol=1e-6)


def test_a_separator_that_is_later_than_the_diarizer_changes_nothing() -> None:
    sources, given, state, out = outputs(LOUD, LOUD), probs(0.9, 0.4), overlap.start(2), []
    for at in range(0, len(given), 40):
        state, some = overlap.tell(Options(), state, given[at : at + 40])
        state = overlap.hear(state, sources[:, at * FRAME : (at + 40) * FRAME])  # half a second later
        out.append(some)
        assert state.energy.shape[1] <= 2 * 40 + AROUND  # nothing piles up
    np.testing.assert_array_equal(np.concatenate(out), given)


def test_a_state_is_a_value() -> None:
    sources, given = outputs(LOUD, LOUD), probs(0.9, 0.2)
    state = overlap.hear(overlap.start(2), sources)
    first = overlap.tell(Options(), state, given)[1]
    np.testing.assert_array_equal(overlap.tell(Options(), state, given)[1], first)
    assert given.max() < 0.95
    np.testing.assert_array_equal(given, probs(0.9, 0.2))
