"""The laws of a diarizer, held by the one that ships, and what it makes of people it never heard."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from buzzing import talk
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import audio

from models.diarizer import Profile
from models.voices_diarizer import VoicesDiarizer, load
from models.voices_state import State
from streaming.framing import Array

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
NAMES = ("0.64s", "1.04s", "1.84s", "3.04s")


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def diarizer() -> VoicesDiarizer:
    return load()


def feed(pcm: Array, profile: str, sizes: Sequence[int]) -> tuple[Array, State]:
    """All of `pcm`, so many samples at a time (again from the start), and the state before `finish`."""
    state, told, at, turn = diarizer().start(profile), [], 0, 0
    while at < len(pcm):
        size = sizes[turn % len(sizes)]
        (probs,), (state,) = diarizer().run([pcm[at : at + size]], [state])
        told.append(probs)
        at, turn = at + size, turn + 1
    return np.concatenate([*told, diarizer().finish(state)]), state


def test_what_it_is() -> None:
    spec = diarizer().spec
    assert next(iter(spec.profiles)) == "1.04s"
    assert sorted(spec.profiles) == sorted(NAMES)
    for name, profile in spec.profiles.items():
        assert profile.latency_s == pytest.approx(float(name[:-1]))
    assert spec.speakers == 8
    assert spec.version
    assert 4e6 < spec.size < 12e6


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 50_000), st.lists(st.integers(1, 25_000), min_size=1, max_size=6), st.sampled_from(NAMES))
def test_any_packets_give_the_same(length: int, sizes: list[int], name: str) -> None:
    pcm = talk(4)[:length]
    ours, _ = feed(pcm, name, sizes)
    whole, _ = feed(pcm, name, [max(length, 1)])
    assert ours.shape == whole.shape == (length // 160, 8)
    assert np.abs(ours - whole).max(initial=0) < 1e-5


def test_sessions_of_all_kinds_step_together() -> None:
    """Different profiles, sounds, beginnings and packets in one call; each as if alone."""
    chosen = [*NAMES, "1.04s"]
    sounds = [*(talk(4 + n / 2, n) for n in range(3)), audio(1, 60_000, 3)[0], np.zeros(50_000, np.float32)]
    rng, states, at = np.random.default_rng(5), [diarizer().start(one) for one in chosen], [0] * len(chosen)
    told: list[list[Array]] = [[] for _ in chosen]
    for tick in range(200):
        here = [n for n in range(len(chosen)) if tick >= 3 * n and at[n] < len(sounds[n]) and rng.random() < 0.8]
        pieces = [sounds[n][at[n] : at[n] + int(rng.integers(0, 12_000))] for n in here]
        probs, after = diarizer().run(pieces, [states[n] for n in here])
        for n, piece, prob, state in zip(here, pieces, probs, after, strict=True):
            at[n] += len(piece)
            told[n].append(prob)
            states[n] = state
    assert at == [len(sound) for sound in sounds]
    for n, name in enumerate(chosen):
        alone, _ = feed(sounds[n], name, [len(sounds[n])])
        together = np.concatenate([*told[n], diarizer().finish(states[n])])
        np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 511, 6399, 6400, 6401, 16_679, 16_680, 16_681])
def test_short_sounds_are_told_to_their_end(length: int) -> None:
    pcm = talk(2)[:length]
    for name in NAMES:
        told, state = feed(pcm, name, [5000])
        assert told.shape == (length // 160, 8)
        assert np.isfinite(told).all()
        assert len(diarizer().finish(state)) <= length // 160


@pytest.mark.parametrize("name", NAMES)
def test_latency_is_as_declared(name: str) -> None:
    profile, pcm = diarizer().profile(name), talk(5)
    state, at = diarizer().start(name), 0
    for n in range(3):
        due = profile.latency + n * profile.chunk_len * 1280
        (none,), (state,) = diarizer().run([pcm[at : due - 1]], [state])
        (some,), (state,) = diarizer().run([pcm[due - 1 : due]], [state])
        at = due
        assert none.shape == (0, 8)
        assert some.shape == (profile.chunk_len * 8, 8)


def test_what_comes_later_than_the_latency_changes_nothing() -> None:
    pcm, other = talk(5), talk(5)
    other[60_000:] = audio(1, 20_000, 1)[0]
    for name in NAMES[:3]:
        (one,), _ = diarizer().run([pcm], [diarizer().start(name)])
        (two,), _ = diarizer().run([other], [diarizer().start(name)])
        known = (60_000 - diarizer().profile(name).latency) // 160
        np.testing.assert_allclose(one[:known], two[:known], atol=1e-6)


def test_states_are_values() -> None:
    pcm = talk(7)
    (first,), (state,) = diarizer().run([pcm[:70_000]], [diarizer().start("1.84s")])
    twin, frozen = copy.deepcopy(state), pickle.loads(pickle.dumps(state))
    guess = diarizer().finish(state)
    rest = pcm[70_000:].copy()
    (one,), (after,) = diarizer().run([rest], [state])
    rest[:] = 1  # the caller's array is the caller's
    for same in (state, twin, frozen):
        assert np.array_equal(one, diarizer().run([pcm[70_000:]], [same])[0][0])
    assert np.array_equal(guess, diarizer().finish(twin))
    whole, _ = feed(pcm, "1.84s", [len(pcm)])
    assert np.abs(np.concatenate((first, one, diarizer().finish(after))) - whole).max() < 1e-5
    assert len(first) + len(guess) == 70_000 // 160


@pytest.mark.parametrize("name", ["0.64s", "3.04s"])
def test_a_state_stays_as_small_as_declared(name: str) -> None:
    state, sizes, pcm = diarizer().start(name), [], talk(12, 4)
    for at in range(0, len(pcm), 5000):
        (_,), (state,) = diarizer().run([pcm[at : at + 5000]], [state])
        sizes.append(state.bytes)
        tensors = [state.frames, state.views, *state.vad.state]
        tensors += [part for one in state.waiting for part in (one.hidden, one.speech, one.views)]
        assert all(part.untyped_storage().nbytes() == 4 * part.numel() for part in tensors)  # no view keeps more alive
    assert max(sizes) <= diarizer().state_bytes(name)
    assert len(pickle.dumps(state)) < diarizer().state_bytes(name) + 16_000


@pytest.mark.slow
def test_an_hour_takes_no_more_memory() -> None:
    import psutil

    minute, process = talk(60, seed=6), psutil.Process()
    state, frames, resident = diarizer().start("1.04s"), 0, []
    for _ in range(60):
        for at in range(0, len(minute), 32_000):
            (probs,), (state,) = diarizer().run([minute[at : at + 32_000]], [state])
            frames += len(probs)
        assert state.bytes <= diarizer().state_bytes("1.04s")
        resident.append(process.memory_info().rss)
    assert frames + len(diarizer().finish(state)) == 360_000
    assert max(resident[30:]) - max(resident[5:30]) < 4e6


@pytest.mark.parametrize("level", [0.0, 1.0, 1e-42])
def test_silence_constant_and_denormals_are_nobody(level: float) -> None:
    told, state = feed(np.full(80_000, level, np.float32), "1.04s", [9000])
    assert np.isfinite(told).all()
    assert (told > 0.5).mean() < 0.02
    assert not state.people.live.any()


def test_parameters_that_cannot_be_are_refused() -> None:
    for profile, words in (
        (Profile(6, 8, 0, 1, 0), "chunk_len 6"),
        (Profile(5, 7, 0, 1, 0), "chunk_right_context 7"),
        (Profile(5, 500, 0, 1, 0), "chunk_right_context 500"),
    ):
        with pytest.raises(ValueError, match=words):
            diarizer().start(profile)
    assert diarizer().start(Profile(5, 13, 0, 1, 0)).profile.chunk_right_context == 13


def test_misuse_is_refused() -> None:
    state = diarizer().start()
    with pytest.raises(ValueError, match=r"'2s', expected one of 1\.04s"):
        diarizer().start("2s")
    with pytest.raises(ValueError, match=r"got 2 arrays.*1 states"):
        diarizer().run([np.zeros(1, np.float32)] * 2, [state])
    bad: list[Any] = [np.zeros(3), np.zeros((1, 3), np.float32)]
    for pcm in bad:
        with pytest.raises(ValueError, match="expected \\[T\\] float32"):
            diarizer().run([pcm], [state])
    assert diarizer().run([], []) == ([], [])


def test_two_who_never_met_it_are_told_apart() -> None:
    """Two held-out people in turns, clean: the right number of people, each on one slot."""
    pytest.importorskip("soundfile")
    if not (DATA / "manifest.json").is_file():
        pytest.skip("the recordings are not there")
    pcm, said = turns()
    told, _ = feed(pcm, "1.04s", [16_000])
    speaking = told > 0.5
    pairs = speaking.T.astype(float) @ said
    assert sorted(pairs.argmax(0)) == [0, 1]
    assert pairs.max(0).sum() / said.sum() > 0.8
    assert speaking[:, 2:].sum() < 0.05 * said.sum()


def turns() -> tuple[Array, Array]:
    """Two held-out people, 4 s at a time for 24 s, and who speaks, `[F, 2]`."""
    from models.training.data import held_out, read_audio, speech_files
    from models.training.meetings import speaking

    files = dict(speech_files(DATA)[0])
    people = [read_audio(files[name], 16000, 1)[0] for name in sorted(held_out("speech", set(files)))]
    chosen = [pcm[: 12 * 16000] for pcm in people if len(pcm) >= 12 * 16000][:2]
    pieces, said = [], np.zeros((2400, 2))
    for n in range(6):
        piece = chosen[n % 2][n // 2 * 64_000 : (n // 2 + 1) * 64_000]
        said[n * 400 : (n + 1) * 400, n % 2] = speaking(piece)
        pieces.append(piece / max(1e-3, float(np.abs(piece).max())) * np.float32(0.4))
    return np.concatenate(pieces), said


def test_people_have_no_order_and_rows_do_not_know_of_each_other() -> None:
    network, generator = diarizer().listener, torch.Generator().manual_seed(0)
    frames = torch.rand(3, 200, 41, generator=generator) ** 4
    sounds = network.sounds(frames, torch.rand(3, 200, generator=generator))
    views = torch.nn.functional.normalize(torch.randn(3, 8, 256, generator=generator), dim=-1)
    people = torch.nn.functional.normalize(torch.randn(3, 5, 256, generator=generator), dim=-1)
    counts, near = torch.tensor([[3, 1, 0, 9, 2]] * 3), torch.rand(3, 5, generator=generator)
    people = people * (counts > 0)[..., None]
    told = network.whose(sounds.hidden, views, people, counts, near)
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = network.whose(sounds.hidden, views, people[:, order], counts[:, order], near[:, order])
    live = counts[0, order] > 0
    torch.testing.assert_close(moved[..., live], told[..., order][..., live], atol=1e-5, rtol=1e-5)
    assert told.shape == (3, 20, 5)
    again = network.whose(sounds.hidden[1:2], views[1:2], people[1:2], counts[1:2], near[1:2])
    torch.testing.assert_close(again, told[1:2], atol=1e-5, rtol=1e-5)


def test_who_speaks_before_anybody_is_known_will_be_the_first() -> None:
    pcm = talk(4)
    (early,), (state,) = diarizer().run([pcm], [diarizer().start("0.64s")])
    assert not early[:, 1:].any() or state.people.live[1:].any()
    assert (early[20:120, 0] > 0.5).any()
