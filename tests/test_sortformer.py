"""The streaming Sortformer against transformers' own streaming, and the laws of a diarizer."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sortformer_oracle as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diarizer import Profile
from models.sortformer import SortformerDiarizer, State, load
from models.sortformer_features import LogMel, mel_filters
from streaming.framing import Array

TOLERANCE = 1e-4  # of a probability, float32 against float32
QUICK = Profile(3, 1, 8, 6, 20)  # compresses after 2 s
PROFILES = {
    "quick": QUICK,
    "left context": Profile(4, 2, 10, 5, 24, chunk_left_context=3),
    "no right context": Profile(5, 0, 7, 30, 16),
    "no fifo": Profile(6, 2, 0, 1, 20),
    "chunk above fifo": Profile(12, 3, 5, 2, 18),
    "left above chunk": Profile(2, 1, 9, 7, 12, chunk_left_context=5),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def model() -> Any:
    return oracle.make_model()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SortformerDiarizer:
    return load(oracle.save(model(), tmp_path_factory.mktemp("tiny")))


def feed(diarizer: SortformerDiarizer, pcm: Array, profile: str | Profile, sizes: Sequence[int]) -> tuple[Array, State]:
    """All of `pcm`, so many samples at a time (again from the start), and the state before `finish`."""
    state, told, at, turn = diarizer.start(profile), [], 0, 0
    while at < len(pcm):
        size = sizes[turn % len(sizes)]
        (probs,), (state,) = diarizer.run([pcm[at : at + size]], [state])
        told.append(probs)
        at, turn = at + size, turn + 1
    return np.concatenate([*told, diarizer.finish(state)]), state


def agrees(ours: Array, theirs: Array) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) < TOLERANCE


def sorted_something(theirs: Array, cache: Any) -> None:
    """Nothing is proved by a network that hears nobody: the cache was compressed, and kept frames of several speakers."""
    assert cache.is_compressed
    share = (theirs > 0.5).mean(0)
    assert ((share > 0.02) & (share < 0.98)).sum() >= 2
    loudest = cache.probs[0].argmax(1)[cache.probs[0].amax(1) > 0.5]
    assert len(loudest.unique()) >= 2


@pytest.mark.parametrize("name", PROFILES)
def test_equals_transformers(tiny: SortformerDiarizer, name: str) -> None:
    pcm = oracle.voices(16.03)
    with oracle.settled():  # of twenty frames kept, some are there twice
        theirs, kept = oracle.stream(model(), pcm, PROFILES[name])
    sorted_something(theirs, kept)
    for sizes in ([len(pcm)], [320], [1, 7000, 159, 161]):
        ours, state = feed(tiny, pcm, PROFILES[name], sizes)
        agrees(ours, theirs)
        assert state.probs is not None


@pytest.mark.parametrize(
    ("name", "seconds"), [("30.4s", 70.2), ("10s", 45), ("1.04s", 50), ("0.64s", 50), ("0.32s", 50)]
)
def test_equals_transformers_in_every_published_profile(tiny: SortformerDiarizer, name: str, seconds: float) -> None:
    pcm, profile = oracle.voices(seconds, seed=3), tiny.spec.profiles[name]
    assert profile.latency_s == pytest.approx(float(name[:-1]))
    theirs, kept = oracle.stream(model(), pcm, profile)
    sorted_something(theirs, kept)
    for sizes in ([len(pcm)], [4000, 333]):
        agrees(feed(tiny, pcm, name, sizes)[0], theirs)


def test_small_model_equals_transformers(tmp_path: Path) -> None:
    small = oracle.make_model(oracle.SMALL, seed=5)
    diarizer, pcm = load(oracle.save(small, tmp_path)), oracle.voices(40, seed=1)
    assert 3.0e6 < sum(weight.numel() for weight in diarizer.network.parameters()) < 3.2e6
    theirs, kept = oracle.stream(small, pcm, diarizer.spec.profiles["1.04s"])
    sorted_something(theirs, kept)
    agrees(feed(diarizer, pcm, "1.04s", [16000])[0], theirs)


@pytest.mark.slow
def test_published_size_equals_transformers(tmp_path: Path) -> None:
    memory = {"fifo_length": 264, "speaker_cache_update_period": 222, "speaker_cache_length": 264}
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 31, "num_attention_heads": 8}
    full = oracle.make_model(sizes, speakers=8, seed=1, gain=0.7, **memory)
    diarizer, pcm = load(oracle.save(full, tmp_path)), oracle.voices(44, seed=1)
    assert sum(weight.numel() for weight in diarizer.network.parameters()) > 99e6
    for name in ("1.04s", "30.4s"):
        theirs, kept = oracle.stream(full, pcm, diarizer.spec.profiles[name])
        sorted_something(theirs, kept)
        agrees(feed(diarizer, pcm, name, [16000])[0], theirs)


def test_sessions_of_all_kinds_step_together(tiny: SortformerDiarizer) -> None:
    """Different profiles, sounds, beginnings and packets in one call; each as if alone."""
    chosen: list[str | Profile] = [*PROFILES.values(), "1.04s", "0.32s", "10s", QUICK]
    sounds = [oracle.voices(14 + n, seed=n) for n in range(len(chosen))]
    rng = np.random.default_rng(5)
    states, at = [tiny.start(one) for one in chosen], [0] * len(chosen)
    told: list[list[Array]] = [[] for _ in chosen]
    sizes: list[int] = []
    watch = tiny.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[1])))
    for tick in range(400):
        here = [n for n in range(len(chosen)) if tick >= 9 * n and at[n] < len(sounds[n]) and rng.random() < 0.8]
        pieces = [sounds[n][at[n] : at[n] + int(rng.integers(0, 9000))] for n in here]
        probs, after = tiny.run(pieces, [states[n] for n in here])
        for n, piece, prob, state in zip(here, pieces, probs, after, strict=True):
            at[n] += len(piece)
            told[n].append(prob)
            states[n] = state
    watch.remove()
    assert at == [len(sound) for sound in sounds]
    assert max(sizes) >= 4
    for n, profile in enumerate(chosen):
        with oracle.settled():
            theirs, _ = oracle.stream(model(), sounds[n], tiny.profile(profile))
        agrees(np.concatenate([*told[n], tiny.finish(states[n])]), theirs)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 60_000),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=8),
    st.sampled_from(sorted(PROFILES)),
)
def test_any_packets_give_the_same(length: int, sizes: list[int], name: str) -> None:
    diarizer, pcm = _shared(), oracle.voices(4, seed=8)[:length]
    ours, _ = feed(diarizer, pcm, PROFILES[name], sizes)
    whole, _ = feed(diarizer, pcm, PROFILES[name], [max(length, 1)])
    assert ours.shape == whole.shape == (length // 160, 4)
    assert np.abs(ours - whole).max(initial=0) < 1e-5


@cache
def _shared() -> SortformerDiarizer:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return load(oracle.save(model(), Path(folder)))


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 400, 1279, 1280, 1281, 5159, 5160, 5161, 5400, 8999, 9000])
def test_short_sounds_equal_transformers(tiny: SortformerDiarizer, length: int) -> None:
    pcm = oracle.voices(1, seed=2)[1000 : 1000 + length]
    theirs, _ = oracle.stream(model(), pcm, QUICK)
    ours, _ = feed(tiny, pcm, QUICK, [100])
    assert len(ours) == length // 160
    agrees(ours, theirs)


@pytest.mark.parametrize("name", ["quick", "left context", "no right context"])
def test_latency_is_as_declared(tiny: SortformerDiarizer, name: str) -> None:
    profile, pcm = PROFILES[name], oracle.voices(4)
    state, at = tiny.start(profile), 0
    for n in range(4):
        due = profile.latency + n * profile.chunk_len * 1280
        (none,), (state,) = tiny.run([pcm[at : due - 1]], [state])
        (some,), (state,) = tiny.run([pcm[due - 1 : due]], [state])
        at = due
        assert none.shape == (0, 4)
        assert some.shape == (profile.chunk_len * 8, 4)


def test_states_are_values(tiny: SortformerDiarizer) -> None:
    pcm = oracle.voices(8)
    (first,), (state,) = tiny.run([pcm[:70_000]], [tiny.start(QUICK)])
    twin, frozen = copy.deepcopy(state), pickle.loads(pickle.dumps(state))
    guess = tiny.finish(state)
    rest = pcm[70_000:].copy()
    (one,), (after,) = tiny.run([rest], [state])
    rest[:] = 1  # the caller's array is the caller's
    others = [tiny.run([pcm[70_000:]], [same])[0][0] for same in (state, twin, frozen)]
    for other in others:
        assert np.array_equal(one, other)
    assert np.array_equal(guess, tiny.finish(twin))
    whole, _ = feed(tiny, pcm, QUICK, [len(pcm)])
    assert np.abs(np.concatenate((first, one, tiny.finish(after))) - whole).max() < 1e-5


def test_first_guess_covers_all_that_was_heard(tiny: SortformerDiarizer) -> None:
    (told,), (state,) = tiny.run([oracle.voices(3)[:40_000]], [tiny.start("1.04s")])
    assert len(told) + len(tiny.finish(state)) == 250


@pytest.mark.parametrize("name", ["left context", "no fifo", "0.32s"])
def test_a_state_stays_as_small_as_declared(tiny: SortformerDiarizer, name: str) -> None:
    profile = tiny.profile(PROFILES.get(name, name))
    state, sizes, pcm = tiny.start(profile), [], oracle.voices(66, seed=4)
    for at in range(0, len(pcm), 3840):
        (_,), (state,) = tiny.run([pcm[at : at + 3840]], [state])
        sizes.append(state.bytes)
        held = [part.untyped_storage().nbytes() for part in (state.frames, state.fifo, state.cache)]
        assert sum(held) <= state.bytes  # no view keeps more alive
    assert max(sizes) <= tiny.state_bytes(profile)
    # Once full (0.32s: after 27 s) it goes up and down, with a period of 12 s, and no further.
    assert max(sizes[-60:]) == max(sizes[-120:-60])


@pytest.mark.slow
def test_an_hour_takes_no_more_memory(tiny: SortformerDiarizer) -> None:
    import psutil

    minute, process = oracle.voices(60, seed=6), psutil.Process()
    state, frames, resident = tiny.start("1.04s"), 0, []
    for _ in range(60):
        for at in range(0, len(minute), 3200):
            (probs,), (state,) = tiny.run([minute[at : at + 3200]], [state])
            frames += len(probs)
        assert state.bytes <= tiny.state_bytes("1.04s")
        resident.append(process.memory_info().rss)
    assert frames + len(tiny.finish(state)) == 360_000
    assert np.isfinite(probs).all()
    assert max(resident[30:]) - max(resident[5:30]) < 4e6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chunk_len": 0}, "chunk_len 0"),
        ({"chunk_right_context": -1}, "chunk_right_context -1"),
        ({"chunk_left_context": -1}, "chunk_left_context -1"),
        ({"fifo_len": -1}, "fifo_len -1"),
        ({"spkcache_update_period": 0}, "spkcache_update_period 0"),
        ({"spkcache_len": 7}, "spkcache_len 7.*at least 8"),
        ({"chunk_len": 2.5}, r"chunk_len 2\.5"),
        ({"chunk_len": True}, "chunk_len True"),
        ({"fifo_len": 5000}, "add up to 5024 .* hears 5000"),
    ],
)
def test_parameters_that_cannot_be_are_refused(tiny: SortformerDiarizer, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny.start(Profile(**{**vars(QUICK), **change}))


def test_misuse_is_refused(tiny: SortformerDiarizer) -> None:
    state = tiny.start()
    assert state.profile == tiny.spec.profiles["1.04s"]
    with pytest.raises(ValueError, match=r"'2s', expected one of 1\.04s"):
        tiny.start("2s")
    with pytest.raises(ValueError, match=r"got 2 arrays.*1 states"):
        tiny.run([np.zeros(1, np.float32)] * 2, [state])
    with pytest.raises(ValueError, match=r"\(3,\) float64"):
        tiny.run([np.zeros(3)], [state])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        tiny.run([np.zeros((1, 3), np.float32)], [state])
    assert tiny.run([], []) == ([], [])


@pytest.mark.parametrize("level", [0.0, 1.0, 1e-42])
def test_silence_constant_and_denormals_are_sound(tiny: SortformerDiarizer, level: float) -> None:
    pcm = np.full(48_000, level, np.float32)
    theirs, _ = oracle.stream(model(), pcm, QUICK)
    agrees(feed(tiny, pcm, QUICK, [5000])[0], theirs)


def test_features_equal_the_processors(tiny: SortformerDiarizer) -> None:
    extract = oracle.processor().feature_extractor
    assert np.allclose(mel_filters(128).astype(np.float32), extract.mel_filters.numpy().T, atol=1e-8)
    mel: LogMel = tiny.mel
    for pcm in (oracle.voices(2), np.zeros(3000, np.float32), np.ones(3000, np.float32)):
        theirs = extract([pcm], sampling_rate=16000, return_tensors="pt").input_features[0][: len(pcm) // 160]
        padded = torch.from_numpy(np.pad(pcm, (201, 0)))
        whole = mel(mel.cut(padded, len(theirs)))
        assert (whole - theirs).abs().max() < 2e-4
        some = mel(mel.cut(padded[7 * 160 : 7 * 160 + 401 + 160], 2))
        assert (some - whole[7:9]).abs().max() < 2e-4


def test_transformers_is_not_imported() -> None:
    code = "import sys, models.sortformer; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
