"""Voices on a sampler: slices that are loud, pitches of a chord, sounds that are held and cut, and parts that are trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

from models.training.chops import FADE, KIND, at_pitch, chopped, cut, fade, held, main, pattern, stacked
from models.training.data import BLOCK, STEMS, Track, music_bank, store_track

RATE = 44100


def tone(hertz: float, seconds: float) -> np.ndarray:
    wave = np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)
    return np.stack((wave, wave)).astype(np.float32)


def peaks(pcm: np.ndarray) -> list[float]:
    """Hz of what is within 12 dB of the loudest, to 2 Hz."""
    size = RATE // 2
    spectrum = np.abs(np.fft.rfft(pcm[0, :size] * np.hanning(min(size, pcm.shape[1])), size))
    found = (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:]) & (spectrum[1:-1] > spectrum.max() / 4)
    return [2.0 * (k + 1) for k in np.flatnonzero(found)]


def voice(pcm: np.ndarray, song: str = "two") -> Track:
    whole = (pcm / np.abs(pcm).max() * 32767).astype(np.int16)
    return Track(song, "vocals", "song", 1.0, whole, np.ones(pcm.shape[1] // BLOCK, bool))


def test_a_slice_is_what_is_loudest_there_and_of_unit_level() -> None:
    quiet = tone(300, 3) * 0.05
    quiet[:, RATE : RATE + RATE // 5] = tone(1000, 0.2)
    lengths = set()
    for seed in range(12):
        track = voice(quiet)
        track.active[:] = [True, *[False] * (len(track.active) - 1)]  # so that the loud moment is always near
        piece = cut(np.random.default_rng(seed), [track])
        lengths.add(piece.shape[1])
        assert np.sqrt(np.square(piece).mean()) == pytest.approx(1, rel=1e-2)
        assert np.abs(np.fft.rfft(piece[0], 4 * RATE)).argmax() / 4 == pytest.approx(1000, abs=5)
    assert 0.14 * RATE < min(lengths) < 0.5 * RATE < max(lengths) <= 1.2 * RATE


def test_pitch_moves_with_length_and_a_chord_has_all_its_notes() -> None:
    higher = at_pitch(tone(220, 1.5), 12)
    assert peaks(higher) == [pytest.approx(440, abs=2)]
    assert higher.shape[1] == pytest.approx(0.75 * RATE, abs=4)
    chord = stacked(np.random.default_rng(0), tone(220, 1.5), (0, 4, 7))
    assert peaks(chord) == [pytest.approx(220 * 2 ** (note / 12), abs=4) for note in (0, 4, 7)]
    assert chord.shape[1] == pytest.approx(1.5 * RATE, rel=0.01)


def test_a_held_sound_lasts_as_long_as_is_wanted_without_gaps_and_keeps_its_pitch() -> None:
    for seed in range(6):
        out = held(np.random.default_rng(seed), tone(440, 0.4), 2 * RATE)
        assert out.shape == (2, 2 * RATE)
        level = np.square(out[0, FADE:]).reshape(-1)[: 39 * 2200].reshape(-1, 2200).mean(1)
        assert level[2:].min() > 0.05 * level.max()
        assert max(peaks(out[:, RATE : 2 * RATE]), key=lambda hertz: -abs(hertz - 440)) == pytest.approx(440, abs=20)


def test_cuts_do_not_click_and_a_pattern_is_one_or_two_bars() -> None:
    faded = fade(tone(50, 0.1) + 1)
    assert faded[:, 0].max() == faded[:, -1].max() == 0
    np.testing.assert_allclose(faded[:, FADE:-FADE], (tone(50, 0.1) + 1)[:, FADE:-FADE], rtol=1e-6)
    assert np.abs(np.diff(faded)).max() < 0.03
    decayed = fade(np.ones((2, RATE), np.float32), decay=0.1)
    assert decayed[0, RATE // 2] == pytest.approx(np.exp(-5), rel=1e-2)
    for seed in range(20):
        hits = pattern(np.random.default_rng(seed), 3)
        steps = [at for at, _, _ in hits]
        assert steps == sorted(set(steps))
        assert max(steps) < 32
        assert {which for _, which, _ in hits} <= {0, 1, 2}


def test_a_part_is_made_of_the_voice_alone_sounds_in_a_beat_and_comes_from_the_generator() -> None:
    tracks = [voice(tone(300, 3))]
    parts = [chopped(np.random.default_rng(seed), tracks, 8.0) for seed in range(6)]
    np.testing.assert_array_equal(parts[0], chopped(np.random.default_rng(0), tracks, 8.0))
    changes = []
    for part in parts:
        assert part.shape == (2, 8 * RATE)
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
        level = np.sqrt(np.square(part[0]).reshape(-1, 2205).mean(1))
        assert (level > 0.05 * level.max()).mean() > 0.2
        changes.append((np.abs(np.diff(level)) > 0.2 * level.max()).sum())
    assert np.median(changes) > 8  # a beat: cuts, not one long sound


def test_parts_are_made_of_training_voices_and_are_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for song, hertz in (("one", 2000), ("two", 300)):  # "one" will be held out
        for stem in STEMS:
            pcm = tone(hertz, 3) if stem == "vocals" else rng.normal(0, 0.1, (2, 3 * RATE)).astype(np.float32)
            store_track(tmp_path / "tracks", song, stem, "song", pcm)
    (tmp_path / "tracks" / "songs.done").touch()
    main(["--data", str(tmp_path), "--cache", str(tmp_path), "--count", "3", "--first", "5"])
    trained, out = music_bank(tmp_path, tmp_path)
    made = [track for track in trained if track.kind == KIND]
    assert [track.song for track in made] == ["chopped005", "chopped006", "chopped007"]
    assert {track.stem for track in made} == {"vocals"}
    assert all(track.active.any() for track in made)
    assert {track.song for track in out} == {"one"}
    for track in made:  # the held-out voice is at 2000 Hz; chords of this one reach 300 * 2^(22 / 12) = 1070
        spectrum = np.abs(np.fft.rfft(np.asarray(track.pcm[0], np.float64)))
        hertz = np.fft.rfftfreq(track.pcm.shape[1], 1 / RATE)
        assert spectrum[(hertz > 1800) & (hertz < 2200)].max() < 0.1 * spectrum.max()


def test_without_a_voice_to_cut_it_says_so(tmp_path: Path) -> None:
    for song in ("one", "two"):
        store_track(tmp_path / "tracks", song, "drums", "song", np.full((2, RATE), 0.1, np.float32))
    (tmp_path / "tracks" / "songs.done").touch()
    with pytest.raises(ValueError, match=r"no vocals.*models\.training\.sing"):
        main(["--data", str(tmp_path), "--cache", str(tmp_path)])
