"""A diarizer that a voice activity detector keeps silent in music: the contract's laws, and real songs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import diarizers, registry, silero
from models.diarizer import FRAME
from models.sortformer import load
from models.speech_only import AHEAD, BEFORE, ENOUGH, SpeechOnly, State
from models.training.evaluate_diarize import real_conversation, whole
from models.training.score_diarizer import instruments, with_music
from streaming.framing import Array

RATE = 16000
PROFILES = ("1.04s", "0.32s")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def diarizer() -> SpeechOnly:
    found = diarizers.build()["diarize"]()
    assert isinstance(found, SpeechOnly)
    return found


@pytest.fixture(scope="module")
def talk() -> Array:
    found = real_conversation()
    if found is None:
        pytest.skip("pyannote.audio, which carries the recording, is not installed")
    return found[0][5 * RATE : 14 * RATE + 77]


def test_what_it_is_made_of(diarizer: SpeechOnly) -> None:
    inner = load(registry.EMBEDDED / "diarize").spec
    assert diarizer.spec.licence == "CC-BY-4.0 AND MIT"
    assert diarizer.spec.version.startswith(inner.version + "+")
    assert diarizer.spec.size > inner.size
    assert (diarizer.spec.name, diarizer.spec.profiles) == (inner.name, inner.profiles)


@pytest.mark.parametrize("profile", PROFILES)
def test_any_packets_are_the_same_and_nothing_waits_for_the_detector(
    diarizer: SpeechOnly, talk: Array, profile: str
) -> None:
    (together,) = whole(diarizer, [talk], profile)
    (alone,) = whole(diarizer.inner, [talk], profile)
    assert together.shape == alone.shape == (len(talk) // FRAME, 4)
    state, inner, told = diarizer.start(profile), diarizer.inner.start(profile), []
    for start in range(0, len(talk), 3777):
        piece = talk[start : start + 3777]
        (probs,), (state,) = diarizer.run([piece], [state])
        (known,), (inner,) = diarizer.inner.run([piece], [inner])
        assert len(probs) == len(known)
        assert isinstance(state, State)
        assert state.speech.nbytes + 4 * len(state.vad.pcm) < diarizer.state_bytes(profile)
        told.append(probs)
    first = diarizer.finish(state)
    np.testing.assert_array_equal(diarizer.finish(state), first)
    np.testing.assert_allclose(np.concatenate([*told, first]), together, atol=1e-5)
    assert (together <= alone + 1e-6).all()


def test_sessions_of_one_call_do_not_know_of_each_other(diarizer: SpeechOnly, talk: Array) -> None:
    early, late = talk[: 4 * RATE], talk[4 * RATE : 9 * RATE]
    states = [diarizer.start("0.32s"), diarizer.start("1.04s")]
    before = [diarizer.finish(state) for state in states]
    told, after = diarizer.run([early, late], states)
    for one, pcm, state, own in zip(told, (early, late), states, after, strict=True):
        (probs,), (alone,) = diarizer.run([pcm], [state])
        np.testing.assert_allclose(one, probs, atol=1e-5)
        np.testing.assert_allclose(diarizer.finish(own), diarizer.finish(alone), atol=1e-5)
    for state, rest in zip(states, before, strict=True):
        np.testing.assert_array_equal(diarizer.finish(state), rest)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_frame_counts_by_the_most_that_was_heard_around_it(diarizer: SpeechOnly, talk: Array, profile: str) -> None:
    """Against the definition, frame by frame, with all of Silero's probabilities at hand."""
    (told,), (plain,) = whole(diarizer, [talk], profile), whole(diarizer.inner, [talk], profile)
    padded = np.pad(talk, (0, silero.STEP - 1))
    (speech,), _ = diarizer.vad.run([padded], [diarizer.vad.start()])
    assert speech.min() < ENOUGH / 2
    ahead = {"1.04s": AHEAD, "0.32s": 1}[profile]
    for frame in range(len(told)):
        step = frame * FRAME // silero.STEP
        share = min(1.0, float(speech[max(0, step - BEFORE) : step + ahead + 1].max()) / ENOUGH)
        np.testing.assert_allclose(told[frame], plain[frame] * share, atol=1e-5)


def test_instruments_are_nobody(diarizer: SpeechOnly, data: Path) -> None:
    pcm = instruments(data, "Sodium", 20)
    (before,), (after,) = whole(diarizer.inner, [pcm], "1.04s"), whole(diarizer, [pcm], "1.04s")
    assert (before > 0.5).any(1).mean() > 0.25  # the network alone has never heard music
    assert (after > 0.5).any(1).mean() < 0.15


def test_music_under_a_meeting_has_its_level() -> None:
    rng = np.random.default_rng(0)
    pcm, songs = rng.normal(0, 0.1, 5000).astype(np.float32), [np.ones(700, np.float32), np.full(9000, 3, np.float32)]
    flags = np.ones((31, 2), bool)
    for (mixed, same), song in zip(with_music([(pcm, flags)] * 2, songs, 15), songs, strict=True):
        assert same is flags
        music = mixed - pcm
        assert 10 * np.log10(np.square(pcm).mean() / np.square(music).mean()) == pytest.approx(15, abs=0.01)
        assert np.allclose(music, music[0]), song


def test_silence_and_the_ends_of_a_stream(diarizer: SpeechOnly) -> None:
    (told,) = whole(diarizer, [np.zeros(RATE, np.float32)], "0.32s")
    assert told.shape == (100, 4)
    assert told.max() < 0.5
    for length in (0, 1, 159, 160, 511, 513):
        (told,) = whole(diarizer, [np.zeros(length, np.float32)], "1.04s")
        assert told.shape == (length // FRAME, 4)
        assert told.dtype == np.float32
    with pytest.raises(ValueError, match="got profile '9s'"):
        diarizer.start("9s")
