"""Random conversations and the losses that speech is trained with."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from models.training.conversations import ConversationMixer, Shares, equaliser, made_room, mu_law, spans
from models.training.data import Clip, SpeechBank
from models.training.losses import (
    floored_snr,
    multi_resolution_stft,
    partition_invariant,
    permutation_invariant,
)

RATE = 16000


@pytest.fixture(scope="module")
def bank() -> SpeechBank:
    """Five voices of noise in bands of their own, three seconds each."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 2000 + 300 * voice, 3 * RATE).astype(np.int16) for voice in range(5)]
    clips = tuple(Clip(f"voice_{voice}", voice * 3 * RATE, 3 * RATE) for voice in range(5))
    room = np.zeros(800, np.float32)
    room[0], room[500] = 0.9, 0.4
    return SpeechBank(np.concatenate(parts), clips[:3], clips[3:], (room,))


def active(voices: np.ndarray) -> np.ndarray:
    """Frames of 10 ms with sound, `[V, F]`."""
    return np.square(voices.reshape(len(voices), -1, 160)).mean(-1) > 1e-9


def test_never_more_than_two_at_once_in_any_plan() -> None:
    rng = np.random.default_rng(1)
    lengths, counts = 48000, set()
    for _ in range(500):
        plan = spans(rng, Shares(), lengths)
        assert all(0 <= start < end <= lengths for start, end in plan)
        at_once = np.zeros(lengths, int)
        for start, end in plan:
            at_once[start:end] += 1
        assert at_once.max() <= 2
        counts.add(len(plan))
    assert counts == {1, 2, 3}


def test_a_mixture_without_noise_is_the_sum_of_its_voices(bank: SpeechBank) -> None:
    shares = Shares(noise=0, telephone=0, clipped=0)
    mixer = ConversationMixer(bank, bank.train, 2.0, shares)
    mixture, voices = mixer.batch(np.random.default_rng(2), 12)
    assert mixture.shape == (12, 1, 2 * RATE)
    assert voices.shape == (12, 3, 1, 2 * RATE)
    assert mixture.dtype == voices.dtype == np.float32
    np.testing.assert_allclose(voices.sum(1), mixture, atol=1e-6)
    again, _ = mixer.batch(np.random.default_rng(2), 12)
    np.testing.assert_array_equal(again, mixture)


def test_noise_and_telephone_change_the_mixture_alone_and_the_band(bank: SpeechBank) -> None:
    quiet = Shares(pair=1, partial=0, three=0, room=0, noise=0, telephone=1, clipped=0)
    mixture, voices = ConversationMixer(bank, bank.train, 2.0, quiet).batch(np.random.default_rng(3), 4)
    spectrum = np.abs(np.fft.rfft(voices.sum(1)[:, 0])) ** 2
    hertz = np.fft.rfftfreq(2 * RATE, 1 / RATE)
    assert spectrum[:, hertz > 4200].sum() < 1e-3 * spectrum.sum()
    assert spectrum[:, hertz < 150].sum() < 1e-2 * spectrum.sum()
    error = np.square(mixture - voices.sum(1)).sum() / np.square(mixture).sum()
    assert 1e-6 < error < 1e-2  # eight bits
    loud = Shares(pair=1, partial=0, three=0, room=0, noise=1, telephone=0, clipped=0)
    mixture, voices = ConversationMixer(bank, bank.train, 2.0, loud).batch(np.random.default_rng(3), 8)
    noise = 10 * np.log10(np.square(mixture - voices.sum(1)).sum((1, 2)) / np.square(mixture).sum((1, 2)))
    assert (noise > -36).all()
    assert (noise < -11).all()


def test_parts_of_the_way_to_the_microphone() -> None:
    rng = np.random.default_rng(4)
    assert np.abs(20 * np.log10(equaliser(rng, 513, RATE))).max() < 24
    room = made_room(rng, RATE)
    assert np.square(room).sum() == pytest.approx(1, abs=1e-5)
    assert room[0] == np.abs(room).max() or np.square(room[1:]).sum() > room[0] ** 2
    pcm = np.linspace(-1, 1, 1001, dtype=np.float32)
    assert np.abs(mu_law(pcm, 1.0) - pcm).max() < 0.03
    assert len(np.unique(mu_law(pcm, 1.0))) <= 255


def test_one_speaker_is_too_few(bank: SpeechBank) -> None:
    with pytest.raises(ValueError, match="got 1 speakers, expected at least 2"):
        ConversationMixer(bank, bank.train[:1], 1.0)


def voices_at(*plans: tuple[int, int], length: int = 16000) -> torch.Tensor:
    """`[1, V, 1, T]`: noise in each span of samples."""
    rng = torch.Generator().manual_seed(5)
    out = torch.zeros(1, len(plans), 1, length)
    for row, (start, end) in enumerate(plans):
        out[0, row, 0, start:end] = torch.randn(end - start, generator=rng)
    return out


def test_with_two_voices_at_once_the_partition_is_pit() -> None:
    voices = voices_at((0, 16000), (2000, 16000))
    mixture = voices.sum(1)
    estimate = voices[:, [1, 0]] * 0.8 + 0.05 * torch.randn(1, 2, 1, 16000, generator=torch.Generator().manual_seed(6))
    pit, _ = permutation_invariant(estimate, voices, mixture)
    loss, told = partition_invariant(estimate, torch.cat((voices, torch.zeros(1, 1, 1, 16000)), 1), mixture)
    torch.testing.assert_close(loss, pit, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(told, voices[:, [1, 0]])


def test_three_voices_take_the_best_way_in_which_nobody_meets_on_one_output() -> None:
    voices = voices_at((0, 16000), (0, 6000), (9000, 16000))  # the first meets both others
    mixture = voices.sum(1)
    generator = torch.Generator().manual_seed(7)
    estimate = torch.stack((voices[:, 1] + voices[:, 2], voices[:, 0]), 1)
    estimate = estimate + 0.1 * torch.randn(estimate.shape, generator=generator)
    loss, told = partition_invariant(estimate, voices, mixture)
    torch.testing.assert_close(told[:, 1], voices[:, 0])
    # by hand: every way to share three voices among two outputs in which no two of one output meet
    ways = []
    for way in product((0, 1), repeat=3):
        if way[0] in (way[1], way[2]):
            continue
        sums = [sum(voices[0, v] for v in range(3) if way[v] == out) for out in (0, 1)]
        costs = [floored_snr(estimate[0, out], sums[out], mixture[0]) for out in (0, 1)]
        ways.append(float(sum(costs) / 2))
    assert float(loss) == pytest.approx(min(ways), abs=1e-2)


def test_two_who_take_turns_are_never_told_on_one_output() -> None:
    voices = voices_at((0, 8000), (8000, 16000))
    mixture = voices.sum(1)
    together = torch.stack((mixture, torch.zeros_like(mixture)), 1)
    apart = voices.clone()
    lazy, told = partition_invariant(together, voices, mixture)
    right, _ = partition_invariant(apart, voices, mixture)
    assert float(right) < -19
    assert float(lazy) > float(right) + 15
    assert bool((told.square().sum((-1, -2)) > 0).all())


def test_a_lone_voice_may_stand_at_either_output() -> None:
    voices = voices_at((0, 16000), (0, 0), (0, 0))
    mixture = voices.sum(1)
    for output in (0, 1):
        estimate = torch.zeros(1, 2, 1, 16000)
        estimate[:, output] = mixture
        assert float(partition_invariant(estimate, voices, mixture)[0]) < -19


def test_gradients_reach_both_outputs_and_are_those_of_the_loss() -> None:
    voices = voices_at((0, 16000), (0, 16000))
    mixture = voices.sum(1)
    estimate = (voices * 0.6).requires_grad_()
    partition_invariant(estimate, voices, mixture)[0].sum().backward()
    mine = estimate.grad.clone()
    estimate.grad = None
    (floored_snr(estimate, voices, mixture.unsqueeze(1)).mean(-1)).sum().backward()
    torch.testing.assert_close(mine, estimate.grad, atol=1e-6, rtol=1e-3)


def test_spectral_distance_is_zero_for_the_same_and_bounded_for_silence() -> None:
    voices = voices_at((0, 16000), (4000, 9000))
    assert float(multi_resolution_stft(voices, voices)) < 1e-3
    silent = multi_resolution_stft(torch.zeros_like(voices), voices)
    assert 0.5 < float(silent) <= 1.01
    half = multi_resolution_stft(voices * 0.5, voices)
    assert float(half) < float(silent)
