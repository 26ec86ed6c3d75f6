"""Cut and join on their own: bounds, refusals, and that nothing grows."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import streams
import zoo
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import overlap_add

from models import toys
from streaming import buffer, cut, join
from streaming.framing import Framing


@settings(max_examples=150, deadline=None)
@given(*(st.integers(0, 30) for _ in range(4)), st.integers(1, 40), st.integers(0, 200), st.integers(1, 60))
def test_every_framing_equals_the_oracle(
    context: int, lookahead: int, fade: int, delay: int, hop: int, length: int, part: int
) -> None:
    """Any five numbers that a framing accepts, any length, any chunking. Stateless here, so no delay in the model."""
    assume(length > 0)
    framing = Framing(context + hop + fade + lookahead, hop, context, lookahead)
    model = toys.Ramp(toys._spec("ramp", framing))
    pcm = zoo.audio(1, length)
    got = streams.stems(streams.run(model, streams.chop(pcm, [part])))
    np.testing.assert_allclose(got, overlap_add(model, framing, pcm), atol=2e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(0, 120), st.integers(0, 300))
def test_a_declared_delay_is_taken_off_exactly(hop: int, delay: int, length: int) -> None:
    model = toys.Delay(toys._spec("delay", Framing(hop, hop, delay=delay)))
    pcm = zoo.audio(1, length)
    chunks = streams.run(model, streams.chop(pcm, [13]))
    if length:
        np.testing.assert_array_equal(streams.stems(chunks).sum(axis=0), pcm)
    else:
        assert chunks == []


@pytest.mark.parametrize(
    ("window", "hop", "context", "lookahead"), [(10, 0, 0, 0), (10, 6, 3, 2), (10, 1, 8, 2), (10, -1, 0, 0)]
)
def test_a_framing_that_settles_nothing_is_refused(window: int, hop: int, context: int, lookahead: int) -> None:
    with pytest.raises(ValueError, match=f"hop {hop}"):
        Framing(window, hop, context, lookahead)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="2 channels"):
        cut.push(Framing(4, 4), cut.CutState(2), zoo.audio(1, 4))


def test_a_window_out_of_order_is_refused() -> None:
    framing = Framing(4, 4)
    window = cut.Window(4, 4, 0, zoo.audio(1, 4))
    with pytest.raises(ValueError, match="starts at 4, the timeline stands at 0"):
        join.accept(framing, join.JoinState(), window, zoo.audio(1, 4)[None])


def test_stems_of_another_length_are_refused() -> None:
    window = cut.Window(0, 4, 0, zoo.audio(1, 4))
    with pytest.raises(ValueError, match="stems of 3 samples, the window has 4"):
        join.accept(Framing(4, 4), join.JoinState(), window, zoo.audio(1, 3)[None])


def test_states_are_values() -> None:
    """A push on an old state gives what it gave before."""
    framing = Framing(8, 4, context=3, lookahead=1)
    state, _ = cut.push(framing, cut.CutState(1), zoo.audio(1, 5))
    _, first = cut.push(framing, state, zoo.audio(1, 20, seed=1))
    cut.push(framing, state, zoo.audio(1, 20, seed=2))
    _, again = cut.push(framing, state, zoo.audio(1, 20, seed=1))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.pcm, two.pcm)


def test_a_long_stream_is_held_in_little() -> None:
    framing = Framing(window=2000, hop=100, context=1700, lookahead=100)
    state = cut.CutState(1)
    for part in streams.chop(zoo.audio(1, 60_000), [37]):
        state, _ = cut.push(framing, state, part.copy())
        held = sum(piece.base.shape[-1] if piece.base is not None else piece.shape[1] for piece in state.pieces[:1])
        assert held <= 4000
    assert sys.getsizeof(state.pieces) < 1000


def test_one_sample_at_a_time_does_not_copy_the_buffer_each_time() -> None:
    pieces: buffer.Pieces = ()
    for _ in range(10_000):
        pieces = buffer.append(pieces, np.ones((1, 1), np.float32))
    assert len(pieces) <= 15
    assert buffer.joined(pieces, 1).shape == (1, 10_000)
