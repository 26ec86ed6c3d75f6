"""Chosen stems, derived stems, mixes, and gains that move without a click."""

from __future__ import annotations

import numpy as np
import pytest

from streaming import mix

SOURCES = ("vocals", "drums", "bass", "other")


def test_a_stem_or_all_but_it() -> None:
    rows = mix.matrix(SOURCES, ("bass", "no_vocals"))
    np.testing.assert_array_equal(rows, [[0, 0, 1, 0], [0, 1, 1, 1]])


def test_a_source_that_a_model_names_so_itself_wins() -> None:
    np.testing.assert_array_equal(mix.matrix(("vocals", "no_vocals"), ("no_vocals",)), [[0, 1]])


def test_a_stem_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"got stem 'piano', this model has vocals, .*no_other"):
        mix.matrix(SOURCES, ("piano",))


@pytest.mark.parametrize("gain", [-0.1, 4.1, float("nan"), float("inf")])
def test_a_gain_out_of_range_is_refused(gain: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 4"):
        mix.mixdown(SOURCES, {"vocals": gain})


def test_gains_move_without_a_jump_and_arrive() -> None:
    up, down = mix.mixdown(SOURCES, {}), mix.mixdown(SOURCES, {"vocals": 0})
    fader = mix.Fader(up, up).towards(down, 882)
    ones = np.zeros((4, 1, 2000), np.float32)
    ones[0] = 1
    parts = []
    for at in range(0, 2000, 160):  # whatever the chunks
        fader, out = fader.apply(ones[:, :, at : at + 160])
        parts.append(out)
    gain = np.concatenate(parts, axis=2)[0, 0]
    assert np.abs(np.diff(np.concatenate(([1.0], gain)))).max() <= 1 / 882 + 1e-6
    assert gain[0] < 1
    np.testing.assert_array_equal(gain[881:], 0)


def test_a_new_target_on_the_way_starts_from_where_it_is() -> None:
    zero, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    fader, _ = mix.Fader(zero, zero).towards(one, 100).apply(np.ones((1, 1, 50), np.float32))
    assert fader.now == pytest.approx(0.5)
    _, out = fader.towards(zero, 100).apply(np.ones((1, 1, 1), np.float32))
    assert out[0, 0, 0] == pytest.approx(0.495)
