"""Stateful resampling: exact in time, the same for any chunking, and as good as a recording resampler."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import streams
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import resample
from streaming.framing import Array
from streaming.resample import Ratio

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000]


def convert(ratio: Ratio, parts: list[Array]) -> Array:
    state, out = resample.start(ratio, parts[0].shape[0]), []
    for part in parts:
        state, pcm = resample.push(ratio, state, part)
        out.append(pcm)
    return np.concatenate([*out, resample.finish(ratio, state)], axis=1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RATES), st.sampled_from(RATES), st.lists(st.integers(0, 900), min_size=1, max_size=8))
def test_any_chunking_gives_the_same_bits_and_the_exact_length(source: int, target: int, sizes: list[int]) -> None:
    ratio, pcm = Ratio(source, target), zoo.audio(2, sum(sizes))
    got = convert(ratio, streams.chop(pcm, [*sizes, 1]))
    np.testing.assert_array_equal(got, convert(ratio, [pcm]))
    assert got.shape[1] == -(-sum(sizes) * target // source)


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (48_000, 44_100), (44_100, 48_000), (8_000, 44_100)])
def test_a_tone_keeps_its_place_and_its_level(source: int, target: int) -> None:
    """Against the tone itself, written at the target rate: gain, delay and drift all show."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(source) / source).astype(np.float32)
    got = convert(Ratio(source, target), [tone[None]])[0]
    expected = np.sin(2 * np.pi * 1000 * np.arange(target) / target)
    inner = slice(target // 10, -target // 10)
    error = 10 * np.log10(np.mean((got - expected)[inner] ** 2) / np.mean(expected[inner] ** 2))
    assert error < -90


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (44_100, 16_000), (96_000, 44_100)])
def test_close_to_soxr_below_the_transition_band(source: int, target: int) -> None:
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(source))
    spectrum[int(0.8 * min(source, target) / 2) :] = 0
    pcm = np.fft.irfft(spectrum).astype(np.float32)
    got, oracle = convert(Ratio(source, target), [pcm[None]])[0], soxr.resample(pcm, source, target, "VHQ")
    inner = slice(target // 10, -target // 10)
    assert 10 * np.log10(np.mean((got - oracle)[inner] ** 2) / np.mean(oracle[inner] ** 2)) < -60


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    """Unfiltered decimation would fold 15 kHz onto 1 kHz."""
    tone = np.sin(2 * np.pi * 15_000 * np.arange(48_000) / 48_000).astype(np.float32)
    got = convert(Ratio(48_000, 16_000), [tone[None]])[0][1600:-1600]
    assert 10 * np.log10(np.mean(got**2) / 0.5) < -80


@pytest.mark.parametrize(
    ("source", "target", "ms"), [(48_000, 16_000, 1.0), (48_000, 44_100, 0.4), (44_100, 48_000, 0.4)]
)
def test_it_holds_back_about_a_millisecond(source: int, target: int, ms: float) -> None:
    ratio = Ratio(source, target)
    assert ratio.half * 1000 / source <= ms
    _, out = resample.push(ratio, resample.start(ratio, 1), np.zeros((1, source), np.float32))
    assert out.shape[1] == ratio.length(source - ratio.half)


def test_odd_rates_are_exact_too() -> None:
    got = convert(Ratio(44_101, 16_000), [np.ones((1, 44_101), np.float32)])[0]
    assert got.size == 16_000
    np.testing.assert_allclose(got[100:-100], 1, atol=1e-5)


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="0 Hz"):
        Ratio(48_000, 0)
