"""A separator and a diarizer as one model: one track a person, with the parts that ship and with parts of known answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import streams
from toy_diarizer import BySign

from models import registry, toys
from models.chain import Chain
from models.diarizer import FRAME, STEP
from models.separator import Spec
from models.speakers import RATE, Speakers
from streaming.framing import Array, Framing


def two_people(seconds: float = 6.0) -> tuple[Array, Array]:
    """Person 0 is positive, person 1 negative: the mixture `[1, T]` and each of them alone `[2, T]`."""
    rng = np.random.default_rng(3)
    sound = np.zeros((2, round(seconds * RATE)), np.float32)
    for person, begin, end in ((0, 0.5, 1.5), (1, 2.0, 3.2), (0, 3.6, 4.4), (1, 4.8, 5.6)):
        span = slice(round(begin * RATE), round(end * RATE))
        sign = 1 - 2 * person
        sound[person, span] = sign * rng.uniform(0.1, 0.45, span.stop - span.start)
    return sound.sum(0, keepdims=True), sound


@pytest.mark.parametrize("rate", [8000, 16000])
def test_people_who_take_turns_come_out_as_they_went_in(rate: int) -> None:
    spec = Spec("toy", rate, 1, ("a", "b"), Framing(100, 100), interchangeable=True, licence="Apache-2.0")
    model = Speakers(toys.Split(spec), BySign(2))
    mixture, alone = two_people()
    out = streams.stems(streams.run(model, streams.chop(mixture, [777])))
    np.testing.assert_allclose(out[:, 0], alone, atol=1e-6)


def test_a_windowed_separator_of_another_rate_stays_in_time() -> None:
    """People at once, by a separator that overlaps, cross-fades, looks ahead and works at 8 kHz."""

    class Halves:
        spec = Spec("toy", 8000, 1, ("a", "b"), Framing(4000, 1500, 1000, 500), (4000,), True)

        def start(self) -> None:
            return None

        def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
            return np.stack((pcm * np.float32(0.25), pcm * np.float32(0.75)), 1), list(states)

    model = Speakers(Halves(), BySign(2))
    time = np.arange(4 * RATE) / RATE
    tone = (0.4 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)[None]  # both signs in every frame: both speak
    out = streams.stems(streams.run(model, [tone]))[:, 0]
    inside = slice(RATE, 3 * RATE)
    np.testing.assert_allclose(sorted(np.abs(out[:, inside]).max(1)), [0.1, 0.3], atol=2e-3)
    np.testing.assert_allclose(out.sum(0)[inside], tone[0, inside], atol=2e-3)


def test_who_speaks_is_told_with_the_tracks_and_before_them() -> None:
    model = Speakers(toys.Split(), BySign(2))
    mixture, alone = two_people()
    state, told = model.start(), []
    for at in range(0, mixture.shape[1] // model.hop * model.hop, model.hop):
        _, (state,) = model.run(mixture[None, :, at : at + model.hop], [state])
        activity = model.activity(state)
        assert activity.start == sum(map(len, told))
        told.append(activity.probs)
        assert sum(map(len, told)) * FRAME >= at + model.hop - model.spec.framing.delay
    known = np.concatenate(told) > 0.5
    spoken = np.abs(alone[:, : len(known) * FRAME].reshape(2, -1, FRAME)).max(2).T >= 0.1
    np.testing.assert_array_equal(known, spoken)


def test_without_a_separator_it_only_tells_who_speaks() -> None:
    model = Speakers(None, BySign(3), people=2)
    mixture, _ = two_people()
    hops = mixture.shape[1] // model.hop
    stems, (state,) = model.run(mixture[None, :, : hops * model.hop], [model.start()])
    assert stems.shape == (1, 0, 1, hops * model.hop)
    assert model.spec.sources == ()
    assert model.activity(state).probs.shape[1] == 2
    chunks = streams.run(model, [mixture])
    assert sum(chunk.stems.shape[-1] for chunk in chunks) == mixture.shape[1]  # the timeline goes on without stems


@pytest.mark.parametrize("buffer", [0, 4000])
def test_the_latency_that_is_declared_is_what_it_takes(buffer: int) -> None:
    model = Speakers(toys.Split(), BySign(), buffer=buffer)
    right = model.profile.chunk_right_context * STEP + 40
    assert model.spec.framing.delay == model.hop + max(10, -(-buffer // FRAME)) * FRAME + FRAME
    assert right <= model.hop


def test_what_cannot_be_put_together_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="got 5 people, by-sign tells 1 to 3 apart"):
        Speakers(toys.Split(), BySign(), people=5)
    with pytest.raises(ValueError, match="2 channels, expected a mono"):
        Speakers(toys.Leaky(), BySign())
    model = Speakers(toys.Split(), BySign())
    with pytest.raises(ValueError, match="multiple of 3840"):
        model.run(np.zeros((1, 1, 100), np.float32), [model.start()])


class ByLevel:
    """Voices by loudness: an encoder of known answer. Counts what it is asked."""

    width = 2

    def __init__(self) -> None:
        self.heard: list[int] = []

    def embed(self, pcm: Sequence[Array]) -> Array:
        self.heard += [len(one) for one in pcm]
        angle = np.array([np.clip(np.abs(one).mean() * 2, 0, np.pi / 2) for one in pcm])
        return np.stack((np.cos(angle), np.sin(angle)), 1).astype(np.float32)


class Swapping:
    """Splits by sign, and changes its outputs every 3.5 s."""

    spec = replace(toys.Split().spec, framing=Framing(160, 160), interchangeable=True)

    def start(self) -> int:
        return 0

    def run(self, pcm: Array, states: Sequence[int]) -> tuple[Array, list[int]]:
        both = np.stack((np.maximum(pcm, 0), np.minimum(pcm, 0)), 1)
        for row, state in enumerate(states):
            swapped = (state + np.arange(pcm.shape[2])) // 56000 % 2 == 1
            both[row] = np.where(swapped, both[row][::-1].copy(), both[row])
        return both, [state + pcm.shape[2] for state in states]


def test_voices_keep_their_tracks_when_the_separator_swaps() -> None:
    rng = np.random.default_rng(5)
    alone = np.zeros((2, 14 * RATE), np.float32)
    for person, begin, end in ((0, 0.2, 2.2), (1, 2.6, 4.6), (0, 5, 9), (1, 7, 13), (0, 11, 12.5)):
        span = slice(round(begin * RATE), round(end * RATE))
        loud = (0.15, 0.45)[person]
        alone[person, span] = (1 - 2 * person) * rng.uniform(loud - 0.04, loud + 0.04, span.stop - span.start)
    interleaved = np.arange(alone.shape[1]) % 2 == 0  # at once, and yet told apart by sign
    together = (alone[0] != 0) & (alone[1] != 0)
    alone[0, together & interleaved] = alone[1, together & ~interleaved] = 0
    encoder = ByLevel()
    wrong = {}
    for ears in (None, encoder):
        model = Speakers(Swapping(), BySign(2), encoder=ears)
        out = streams.stems(streams.run(model, [alone.sum(0, keepdims=True)]))[:, 0]
        wrong[ears is not None] = np.abs(out - alone)[:, together].sum() / np.abs(alone[:, together]).sum()
    print({key: round(float(value), 3) for key, value in wrong.items()})
    assert encoder.heard
    assert wrong[True] < 0.2 < wrong[False]


class Loud:
    """Speech is what is loud; tells every 512 samples, as Silero does."""

    def start(self) -> Array:
        return np.zeros(0, np.float32)

    def run(self, pcm: Sequence[Array], states: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        heard = [np.concatenate(pair) for pair in zip(states, pcm, strict=True)]
        whole = [len(row) // 512 * 512 for row in heard]
        told = [np.abs(row[:n].reshape(-1, 512)).max(1) for row, n in zip(heard, whole, strict=True)]
        return told, [row[n:] for row, n in zip(heard, whole, strict=True)]


class Counting:
    spec = replace(toys.Split().spec, framing=Framing(160, 160), interchangeable=True)

    def __init__(self) -> None:
        self.samples = 0

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        self.samples += pcm.size
        return toys.Split().run(pcm, states)


def test_the_separator_rests_in_silence_and_nothing_is_lost() -> None:
    mixture, _ = two_people()
    silence = np.full((1, 20 * RATE), 0.001, np.float32)
    talk = np.concatenate((mixture, silence, mixture), 1)
    out = {}
    for vad in (None, Loud()):
        separator = Counting()
        model = Speakers(separator, BySign(2), vad=vad)
        out[vad is not None] = streams.stems(streams.run(model, [talk])), separator.samples
    np.testing.assert_array_equal(out[True][0], out[False][0])
    assert out[True][1] < 0.55 * out[False][1]


def test_sessions_of_a_batch_are_alone_and_a_state_is_a_value() -> None:
    separator = registry.from_path("speech", registry.EMBEDDED / "speech").load(None)
    model = Speakers(separator, BySign(2))
    rng = np.random.default_rng(1)
    pcm = rng.normal(0, 0.2, (3, 1, 2 * model.hop)).astype(np.float32)
    states = [model.start()]
    for row in range(2):
        states.append(model.run(pcm[row : row + 1], [states[-1]])[1][0])
    together, after = model.run(pcm, states)
    for row, state in enumerate(states):
        alone, (once,) = model.run(pcm[row : row + 1], [state])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)
        np.testing.assert_allclose(model.activity(after[row]).probs, model.activity(once).probs)
    again, _ = model.run(pcm, states)
    np.testing.assert_allclose(again, together, atol=1e-6)


class Vocals:
    """44.1 kHz stereo: everything that is positive or negative is singing, and there is a hum of 0.01 beside it."""

    spec = Spec("toy", 44_100, 2, ("other", "vocals"), Framing(1024, 1024), licence="Apache-2.0", version="1")

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        hum = np.full_like(pcm, 0.01)
        return np.stack((hum, pcm - hum), 1), list(states)


def test_the_music_is_taken_out_before_the_people_are_told_apart() -> None:
    both = Speakers(toys.Split(), BySign(2))
    chain = Chain(Vocals(), "vocals", both, "chain")
    assert chain.spec.sources == ("speaker_1", "speaker_2")
    assert (chain.spec.rate, chain.spec.channels) == (44_100, 2)
    time = np.arange(6 * 44_100) / 44_100
    people = np.where((time > 1) & (time < 2), 0.3, 0) - np.where((time > 3) & (time < 4.5), 0.3, 0)
    song = np.repeat(people[None], 2, 0).astype(np.float32) + np.float32(0.01)
    state, told, out = chain.start(), [], []
    delay, hop = chain.spec.framing.delay, chain.spec.framing.hop
    padded = np.pad(song, ((0, 0), (0, -(-(song.shape[1] + delay) // hop) * hop - song.shape[1])))
    for at in range(0, padded.shape[1], hop):
        stems, (state,) = chain.run(padded[None, :, at : at + hop], [state])
        out.append(stems[0])
        assert chain.activity(state).start == sum(map(len, told))
        told.append(chain.activity(state).probs)
    tracks = np.concatenate(out, -1)[:, 0, delay : delay + song.shape[1]]
    assert np.abs(tracks.sum(0) - people)[(time > 1.1) & (time < 1.9)].max() < 1e-3
    assert np.abs(tracks[1][time < 2.7]).max() < 1e-3
    assert np.abs(tracks[0][time > 3.1]).max() < 1e-3
    assert abs(tracks[1][(time > 3.2) & (time < 4.4)] + 0.3).max() < 1e-3
    speaking = np.concatenate(told)[:550] > 0.5
    assert abs(int(np.flatnonzero(speaking[:, 1]).min()) - 300) <= 1
    whole, _ = chain.run(padded[None], [chain.start()])
    np.testing.assert_allclose(whole[0], np.concatenate(out, -1), atol=1e-5)


def test_a_chain_needs_the_stem() -> None:
    with pytest.raises(ValueError, match="got stem 'singer', toy has other, vocals"):
        Chain(Vocals(), "singer", Speakers(toys.Split(), BySign()), "chain")
