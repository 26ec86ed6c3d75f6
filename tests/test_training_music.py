"""Music to train on: augmentation that keeps the sum, rendered kinds, what is reserved, and the task of `music-hq`."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from demucs.pretrained import get_model  # noqa: E402
from scipy.signal import butter, sosfilt  # noqa: E402

from models import registry  # noqa: E402
from models.bsrnn import BandSplitRNN  # noqa: E402
from models.bsrnn_config import MUSIC  # noqa: E402
from models.bsrnn_file import save  # noqa: E402
from models.training.augment_music import (  # noqa: E402
    BASS,
    DRUMS,
    NOTHING,
    OTHER,
    VOCALS,
    Augment,
    Shares,
    fast_length,
    follow,
    power,
)
from models.training.club import club, ended, groove, pumping  # noqa: E402
from models.training.data import BLOCK, STEMS, held_kinds, music_bank, store_track, tracks  # noqa: E402
from models.training.losses import multi_resolution_stft, stems_loss  # noqa: E402
from models.training.mixing import Mixing, MusicMixer  # noqa: E402
from models.training.music_hq import ARCHITECTURE, FLOOR, MusicHQ  # noqa: E402
from models.training.render import BASSES, GUITARS, KITS, PROGRAMS, RESERVED, SOUNDFONT, fluidsynth, levelled  # noqa: E402
from models.training.run import Plan, Run  # noqa: E402
from models.training.score import Note, strummed  # noqa: E402
from models.training.sing import brightened, sing, vocoder  # noqa: E402
from models.training.synth import growl, kick, lay, machine, struck, synth_bass  # noqa: E402
from models.training.teachers import Teachers, nearest  # noqa: E402
from models.training.unseen import SETTINGS, balanced, busiest, pitch_line, remix, score_parts, sounding  # noqa: E402
from models.training.workers import Workers  # noqa: E402

RATE = 44100
EFFECTS = [field.name for field in fields(Shares)]


def noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (4, 2, int(seconds * RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs of two seconds of noise, of which "one" is held out, a rendered piece without vocals, and an unseen kind."""
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    for kind, song, stems in (
        ("song", "one", STEMS),
        ("song", "two", STEMS),
        ("club", "club000", STEMS[1:]),
        ("held-score", "bach", STEMS),
    ):
        for stem in stems:
            store_track(folder / "tracks", song, stem, kind, rng.normal(0, 0.1, (2, 2 * RATE)).astype(np.float32))
    (folder / "tracks" / "songs.done").touch()
    return folder


def only(effect: str) -> Augment:
    return Augment(replace(NOTHING, **{effect: 1.0}))


@pytest.mark.parametrize("effect", EFFECTS)
def test_every_effect_has_a_switch_and_changes_something_finite_but_not_what_it_is_given(effect: str) -> None:
    stems = noise(1)
    stems[OTHER] = 0
    before = stems.copy()
    out = only(effect)(np.random.default_rng(2), stems)
    np.testing.assert_array_equal(stems, before)
    assert out.shape == stems.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.abs(out - stems).max() > 1e-3
    assert not out[OTHER].any()


def test_without_shares_nothing_happens_and_a_wrong_one_is_named() -> None:
    stems = noise(3)
    np.testing.assert_array_equal(Augment(NOTHING)(np.random.default_rng(0), stems), stems)
    with pytest.raises(ValueError, match=r"reverb 1\.5, expected 0 to 1"):
        Shares(reverb=1.5)


def test_the_mix_bus_puts_one_gain_on_every_stem() -> None:
    stems = noise(4) * np.linspace(0.05, 1, noise(4).shape[-1], dtype=np.float32)
    out = only("bus")(np.random.default_rng(1), stems)
    gain = out.sum(0) / np.where(np.abs(stems.sum(0)) > 1e-4, stems.sum(0), 1)
    clear = np.abs(stems.sum(0)) > 1e-2
    for row in range(4):
        np.testing.assert_allclose(out[row][clear], (stems[row] * gain)[clear], atol=1e-4)
    assert gain[clear].min() < 0.8  # it compresses
    assert gain[clear].max() <= 1.0 + 1e-4


def test_bass_and_other_give_way_to_the_kick_and_drums_do_not() -> None:
    stems, length = noise(5, 1.0), RATE
    t = np.arange(length // 2) / RATE
    stems[DRUMS] = 0
    stems[DRUMS, :, length // 2 :] = np.sin(2 * np.pi * 50 * t) * np.exp(-t / 0.05)
    out = only("ducked")(np.random.default_rng(0), stems)
    np.testing.assert_array_equal(out[DRUMS], stems[DRUMS])
    struck = slice(length // 2 + 500, length // 2 + 1500)
    for row, least in ((BASS, 1.4), (OTHER, 1.4), (VOCALS, 1.1)):
        assert power(stems[row][:, struck]) > least * power(out[row][:, struck])
        assert power(out[row][:, : length // 4]) == pytest.approx(power(stems[row][:, : length // 4]), rel=1e-3)


def test_drums_come_forward_by_three_to_six_decibels_above_the_rest() -> None:
    for seed in range(5):
        out = only("forward")(np.random.default_rng(seed), noise(seed))
        rest = out.sum(0) - out[DRUMS]
        assert 2.9 < 10 * np.log10(power(out[DRUMS]) / power(rest)) < 6.1


def test_the_band_of_a_codec_holds_for_all_stems_and_the_equaliser_is_mild_and_keeps_the_level() -> None:
    stems = noise(6)
    spectra = np.abs(np.fft.rfft(only("codec")(np.random.default_rng(0), stems)))
    hertz = np.fft.rfftfreq(stems.shape[-1], 1 / RATE)
    assert (spectra[..., hertz > 16_600].mean((1, 2)) < 1e-2 * spectra[..., hertz < 9000].mean((1, 2))).all()
    equal = only("equaliser")(np.random.default_rng(0), stems)
    for row in range(4):
        assert power(equal[row]) == pytest.approx(power(stems[row]), rel=1e-3)
    gain = 20 * np.log10(Augment().equaliser(np.random.default_rng(0), 2000))
    assert np.abs(gain).max() < 13
    assert np.ptp(gain) > 0.5


def test_sizes_of_transforms_are_products_of_small_primes() -> None:
    for length in (17, 1000, 132301, 150000):
        size = fast_length(length)
        assert length <= size < 1.07 * length + 16
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        assert size == 1


def test_a_level_rises_at_once_and_falls_slowly() -> None:
    np.testing.assert_allclose(follow(np.array([0, 1, 0, 0, 0.9, 0]), 0.5), [0, 1, 0.5, 0.25, 0.9, 0.45])


def test_mixtures_are_the_sum_of_their_stems_and_come_from_the_generator_alone(cache: Path) -> None:
    trained, _ = music_bank(cache, cache)
    mixer = MusicMixer(trained, 0.3, augment=Augment())
    mixture, stems = mixer.batch(np.random.default_rng(3), 4)
    np.testing.assert_allclose(mixture, stems.sum(1), atol=1e-6)
    again, _ = pickle.loads(pickle.dumps(mixer)).batch(np.random.default_rng(3), 4)
    np.testing.assert_array_equal(mixture, again)


def test_what_a_rendered_piece_lacks_comes_from_anywhere_and_a_song_stays_what_it_is(cache: Path) -> None:
    trained, _ = music_bank(cache, cache)
    pieces = MusicMixer([t for t in trained if t.kind != "song" or t.stem == "vocals"], 0.3, Mixing(coherent=1.0))
    sung = [pieces.one(np.random.default_rng(seed))[VOCALS].any() for seed in range(30)]
    assert 5 < sum(sung) < 25
    without = [t for t in trained if t.kind == "song" and t.stem != "vocals"]
    voice = replace(next(t for t in trained if t.stem == "vocals"), song="alone")
    songs = MusicMixer([*without, voice], 0.3, Mixing(coherent=1.0))
    assert not any(songs.one(np.random.default_rng(seed))[VOCALS].any() for seed in range(10))


def test_a_kind_of_which_there_is_little_is_drawn_less(cache: Path) -> None:
    _, held = music_bank(cache, cache)
    track = next(t for t in held if t.stem == "drums")
    much = replace(track, kind="shots", active=np.ones(960, bool))
    little = replace(track, kind="loop", active=np.ones(48, bool))
    weights = MusicMixer.weigh([much, much, little])
    assert weights[:2].sum() == pytest.approx(1 / 1.1)
    assert weights[2] == pytest.approx(0.1 / 1.1)
    voices = [
        replace(track, stem="vocals", kind=kind, active=np.ones(960, bool)) for kind in ("song", "sung", "chopped")
    ]
    assert MusicMixer.weigh(voices) == pytest.approx([0.4, 0.2, 0.4])


def test_songs_are_heard_as_often_as_is_asked_and_a_wrong_share_is_named(cache: Path) -> None:
    trained, _ = music_bank(cache, cache)  # a song with vocals, and a rendered piece without
    loud = {
        kind: [replace(t, gain=gain) for t in trained if t.kind == kind] for kind, gain in (("song", 1), ("club", 0))
    }
    mixer = MusicMixer([*loud["song"], *loud["club"]], 0.1, Mixing(coherent=1.0, songs=9.0))
    assert mixer.likely == pytest.approx([0.1, 0.9] if mixer.kinds == [["club000"], ["two"]] else [0.9, 0.1])
    heard = sum(mixer.together(np.random.default_rng(seed)).any() for seed in range(60))
    assert 45 < heard < 60  # nine in ten, the others are silent
    with pytest.raises(ValueError, match=r"'far': 1\.5\}, expected 0 to 1"):
        Mixing(far=1.5)
    with pytest.raises(ValueError, match="got songs 0 times as often"):
        Mixing(songs=0)


def test_stems_may_be_faint_or_absent_and_voices_may_be_several(cache: Path) -> None:
    trained, _ = music_bank(cache, cache)

    def levels(**options: float) -> np.ndarray:
        """RMS in dB of each stem that is there, in 60 mixtures from anywhere: `[60, 4]`, else NaN."""
        mixer = MusicMixer(trained, 0.1, Mixing(coherent=0, **options))
        stems = np.stack([mixer.anything(np.random.default_rng(seed)) for seed in range(60)])
        found = np.sqrt(np.square(stems).mean((2, 3)))
        return 20 * np.log10(np.where(found > 0, found, np.nan))

    plain, far = levels(), levels(far=1.0)
    assert np.nanstd(plain[:, BASS]) < 5 < np.nanstd(far[:, BASS])
    assert np.nanmedian(far[:, DRUMS]) < np.nanmedian(plain[:, DRUMS]) - 4
    assert np.isnan(levels(present=0.3)).sum() > 2 * np.isnan(plain).sum() > 0
    # Two or three voices that have nothing to do with each other: 3 to 4.8 dB.
    assert np.nanmedian(levels(choirs=1.0)[:, VOCALS]) > np.nanmedian(plain[:, VOCALS]) + 2


def test_basses_may_be_lower_than_they_were_played_and_voices_moved(cache: Path) -> None:
    trained, _ = music_bank(cache, cache)
    tone = np.sin(2 * np.pi * 100 * np.arange(2 * RATE) / RATE)
    pcm = np.round(np.stack((tone, tone)) * 30_000).astype(np.int16)
    tones = [replace(track, pcm=pcm, gain=1.0, active=np.ones(2 * RATE // BLOCK, bool)) for track in trained]
    mixer = MusicMixer(tones, 0.4, Mixing(coherent=0, deep=1.0, bent=1.0))
    mixer.speed = lambda rng: 1.0  # type: ignore[method-assign]
    for stem, low, high in (("drums", 100, 100), ("bass", 50, 75), ("other", 100, 100), ("vocals", 66.7, 149.8)):
        for seed in range(5):
            heard = mixer.layer(np.random.default_rng(seed), stem)[0, :8000]
            peak = np.abs(np.fft.rfft(heard * np.hanning(8000), 2 * RATE)).argmax() / 2
            assert low - 1 <= peak <= high + 1
            assert stem in ("drums", "other") or abs(peak - 100) > 1


def test_unseen_kinds_are_neither_trained_on_nor_the_validation_songs(cache: Path) -> None:
    trained, held = music_bank(cache, cache)
    assert {track.song for track in trained} == {"two", "club000"}
    assert {track.song for track in held} == {"one"}
    assert {(track.kind, track.song) for track in held_kinds(cache)} == {("held-score", "bach")}


def test_nothing_that_is_reserved_is_rendered_for_training() -> None:
    reserved = set(RESERVED["programs"])
    assert not reserved & {*PROGRAMS, *BASSES, *GUITARS}
    assert not set(RESERVED["drum_kits"]) & set(KITS)
    for setting in SETTINGS:
        used = {setting.bass, *(p for p in setting.others if p is not None)}
        assert used <= reserved
        assert setting.drums in RESERVED["drum_kits"] or setting.drums in RESERVED["one_shots"]


def test_the_pitch_of_a_kick_falls_and_that_of_a_bass_note_stays() -> None:
    def peak(pcm: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), 16 * len(pcm)))
        return float(spectrum[10:].argmax() + 10) * RATE / (16 * len(pcm))

    for seed in range(4):
        pcm = kick(np.random.default_rng(seed))[0]
        assert 0.5 < np.abs(pcm).max() < 1.3
        assert peak(pcm[:700]) > 1.2 * peak(pcm[1500:5000])
        rng = np.random.default_rng(seed)
        note = synth_bass(rng)(Note(0, 0.4, 45, 127))[0]
        assert peak(note[4000:12000]) == pytest.approx(peak(note[1000:9000]), rel=0.02)


def test_a_growl_keeps_its_note_while_its_timbre_moves() -> None:
    moved = []
    for seed in range(6):
        pcm = growl(np.random.default_rng(seed))(Note(0, 1.0, 45, 127))  # 110 Hz
        assert pcm.shape[0] == 2
        assert np.isfinite(pcm).all()
        spectrum = np.abs(np.fft.rfft(pcm[0, : RATE // 2] * np.hanning(RATE // 2), 4 * RATE))
        assert spectrum[4 * 100 : 4 * 120].max() > 10 * np.median(spectrum[4 * 40 : 4 * 100])
        bright = [np.abs(np.diff(part)).mean() / np.abs(part).mean() for part in np.array_split(pcm[0, :40_000], 16)]
        moved.append(max(bright) / min(bright))
    assert np.median(moved) > 1.2


def test_a_struck_bass_begins_as_a_kick_and_stays_on_its_note() -> None:
    for seed in range(6):
        pcm = struck(np.random.default_rng(seed))(Note(0, 1.2, 45, 127))[0]
        late = np.abs(np.fft.rfft(pcm[10_000:40_000] * np.hanning(30_000), 4 * RATE))
        note = max(55, 110, key=lambda hertz: late[4 * hertz - 8 : 4 * hertz + 9].max())
        again = np.abs(np.fft.rfft(pcm[20_000:50_000] * np.hanning(30_000), 4 * RATE))
        for part in (late, again):
            assert abs(part[4 * 40 : 4 * 125].argmax() / 4 + 40 - note) < 2
        crossed = [int(np.flatnonzero(np.diff(np.signbit(pcm[a:b]))).size) for a, b in ((0, 4410), (39_690, 44_100))]
        assert crossed[0] > crossed[1]  # higher at first


def test_kicks_of_dance_music_end_before_they_are_a_bass() -> None:
    np.testing.assert_allclose(
        ended(np.ones((2, 1000), np.float32), 600)[:, [0, 199, 400, 599]], [[1, 1, 0.5, 1 / 400]] * 2
    )
    for seed in range(6):
        rng = np.random.default_rng(seed)
        drums = club(rng, 8, lambda note: np.zeros((2, 1), np.float32))["drums"]
        low = sosfilt(butter(2, 100, fs=RATE, output="sos"), drums.mean(0))
        level = np.sqrt(np.square(low[: len(low) // 2205 * 2205]).reshape(-1, 2205).mean(1))
        assert 0 < (level > 0.25 * np.quantile(level, 0.98)).mean() < 0.6


def test_made_dance_music_has_three_stems_of_one_length_and_pumps() -> None:
    rng = np.random.default_rng(4)
    stems = club(rng, 4, machine(rng))
    assert set(stems) == {"bass", "drums", "other"}
    assert len({pcm.shape for pcm in stems.values()}) == 1
    assert all(np.isfinite(pcm).all() and power(pcm) > 1e-6 for pcm in stems.values())
    bed = groove(rng, 8)
    assert bed.pitch(0, 7, 3) - bed.pitch(0, 0, 3) == 12
    gain = pumping(rng, [Note(0.5, 0.1, 36, 100)], 2 * RATE)
    assert gain[: RATE // 2].min() > 0.99
    assert gain[RATE // 2] < 0.65
    assert gain[-1] > 0.99
    mixed = levelled(np.random.default_rng(0), stems)
    apart = [20 * np.log10(np.sqrt(power(pcm)) / 0.1) for pcm in mixed.values()]
    assert max(np.abs(apart)) < 13


def test_a_strummed_chord_is_a_hand_over_the_strings() -> None:
    chord = [Note(1.0, 2.0, pitch, 90) for pitch in (60, 64, 67)]
    notes = strummed(np.random.default_rng(0), chord)
    first = sorted((n for n in notes if n.start < 1.15), key=lambda n: n.start)
    assert [n.pitch for n in first[:6]] == [48, 52, 55, 60, 64, 67]
    assert 0 < first[5].start - first[0].start < 0.15
    assert min(n.start for n in notes) == 1.0
    assert max(n.start for n in notes) < 3.3


@pytest.mark.skipif(shutil.which("fluidsynth") is None or not SOUNDFONT.is_file(), reason="no FluidSynth here")
def test_fluidsynth_plays_the_note_dry_and_wet() -> None:
    notes = [Note(0.1, 0.5, 69, 100)]
    dry, wet = (fluidsynth(notes, 73, False, reverb)[:, : 2 * RATE] for reverb in (False, True))
    spectrum = np.abs(np.fft.rfft(dry.mean(0)[: RATE // 2]))
    assert abs(spectrum.argmax() * 2 - 440) < 8
    after = slice(int(1.1 * RATE), None)
    assert power(wet[:, after]) > 2 * power(dry[:, after])


def test_a_score_becomes_parts_of_notes_and_a_line_to_sing() -> None:
    pytest.importorskip("music21")
    parts = score_parts("bach/bwv66.6", 60, 8)
    assert len(parts) == 4
    assert [(n.start, n.pitch) for n in parts[0][:3]] == [(0.0, 73), (0.5, 71), (1.0, 69)]
    assert max(n.start for part in parts for n in part) < 8
    line = pitch_line(parts[0])
    assert line[50] == pytest.approx(554.4, abs=0.1)


@pytest.mark.skipif(find_spec("pyworld") is None, reason="no pyworld here")
def test_the_vocoder_leaves_nothing_of_its_making_among_the_modules() -> None:
    before = sys.modules.get("pkg_resources")
    assert vocoder().__name__ == "pyworld"
    assert sys.modules.get("pkg_resources") is before


@pytest.mark.skipif(find_spec("pyworld") is None, reason="no pyworld here")
def test_a_voice_sings_the_line_that_it_is_given_and_rests_where_it_rests() -> None:
    t = np.arange(2 * 16000) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30)) * 0.1
    line = np.concatenate((np.full(300, 660.0), np.zeros(100)))
    out = sing(np.random.default_rng(0), voice, 16000, line)
    assert len(out) == pytest.approx(2 * 16000, abs=200)
    spectrum = np.abs(np.fft.rfft(out[4000:20000] * np.hanning(16000)))
    assert spectrum[80:600].argmax() + 80 == pytest.approx(165, abs=3)  # two octaves down, where the speaker speaks
    assert power(out[25600:30000]) < 1e-3 * power(out[4000:20000])


def test_a_voice_gets_an_air_above_and_keeps_what_it_had() -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, (2, RATE))
    spectrum = np.fft.rfft(pcm)
    spectrum[:, 7400:] = 0
    pcm = np.fft.irfft(spectrum, RATE).astype(np.float32)
    out = brightened(np.random.default_rng(1), pcm)
    assert out.shape == pcm.shape
    before, after = (np.square(np.abs(np.fft.rfft(x))).mean(0) for x in (pcm, out))
    assert after[500:3900].mean() == pytest.approx(before[500:3900].mean(), rel=0.02)
    above = after[8000:10500].mean() / before[4000:7000].mean()
    assert 10**-1.8 < above < 10**-0.3
    assert after[12000:14000].mean() < after[8000:10500].mean()


def test_held_out_songs_are_remixed_each_from_its_busiest_place(cache: Path) -> None:
    _, held = music_bank(cache, cache)
    song = {track.stem: track for track in held}
    late = replace(song["drums"], active=np.array([0, 0, 1, 1], bool))
    assert busiest([late, song["bass"]], 2) == 2
    stems = remix(song, song, 1.0)
    assert set(stems) == set(STEMS)
    assert all(pcm.shape == (2, 2 * BLOCK) for pcm in stems.values())
    rest = sum(stems[stem] for stem in STEMS if stem != "vocals")
    assert power(stems["vocals"]) == pytest.approx(power(rest), rel=1e-3)


def test_stems_of_a_score_are_balanced_and_of_one_length() -> None:
    stems = balanced({"drums": noise(1)[0], "bass": 0.01 * noise(2, 0.2)[0]}, RATE // 4)
    assert {pcm.shape for pcm in stems.values()} == {(2, RATE // 4)}
    assert 10 * np.log10(power(stems["drums"]) / power(stems["bass"])) == pytest.approx(2, abs=0.01)


def test_a_bass_sounds_an_octave_below_what_is_written_unless_that_is_too_low() -> None:
    cello = [Note(0, 1, pitch, 90) for pitch in (48, 55, 60)]
    assert [n.pitch for n in sounding(cello)] == [36, 43, 48]
    low = [Note(0, 1, pitch, 90) for pitch in (29, 36, 41)]
    assert sounding(low) == low


def test_sounds_are_laid_where_their_notes_stand() -> None:
    notes = [Note(0.5, 0.1, 60, 127), Note(1.0, 0.1, 62, 127)]
    out = lay(notes, lambda note: np.full((2, 3), note.pitch, np.float32))
    assert np.flatnonzero(out[0]).tolist() == [22050, 22051, 22052, 44100, 44101, 44102]
    assert out[1, 44100] == 62


# music-hq

SMALL = ARCHITECTURE | {"channels": 4, "bottom_channels": 16, "dconv_comp": 2, "t_heads": 2}
SMALL |= {"segment": type(ARCHITECTURE["segment"])(1, 2)}


@pytest.fixture(scope="module")
def task(cache: Path) -> MusicHQ:
    trained, held = music_bank(cache, cache)
    return MusicHQ(
        MusicMixer(trained, 0.5), MusicMixer(held, 0.5, mixing=Mixing(coherent=0.5)), batches=1, architecture=SMALL
    )


def test_stems_stand_in_the_order_of_the_sources(task: MusicHQ) -> None:
    _, stems = task.batch(np.random.default_rng(5), 2)
    _, plain = task.mixer.batch(np.random.default_rng(5), 2)
    for place, source in enumerate(SMALL["sources"]):
        np.testing.assert_array_equal(stems[:, place], plain[:, STEMS.index(source)])


def test_a_few_steps_and_the_export_is_the_same_model_for_demucs_and_for_us(task: MusicHQ, tmp_path: Path) -> None:
    run = Run(task, Plan(minutes=1, batch=2, rate=1e-3, warmup=1), tmp_path / "run")
    with Workers(task, 0, 2) as ahead:
        losses = [run.train_step(ahead.next)["loss"] for _ in range(2)]
    assert np.isfinite(losses).all()
    told = task.validate(run.average, "cpu")
    assert next(iter(told)) == "si_sdr_gain"
    assert set(told) >= {*SMALL["sources"], "sdr", "validation_loss"}
    folder = tmp_path / "music-hq"
    run.export(folder)
    first = {path.name for path in folder.iterdir()}
    run.average.load_state_dict({key: value * 1.1 for key, value in run.average.state_dict().items()})
    run.export(folder)
    assert len(list(folder.iterdir())) == 2  # the yaml and one checkpoint: the old one is gone
    assert first != {path.name for path in folder.iterdir()}

    entry = registry.from_path("music-hq", folder)
    assert (entry.sources, entry.rate, entry.channels, entry.licence) == (
        tuple(SMALL["sources"]),
        44100,
        2,
        "CC-BY-4.0",
    )
    model = entry.load(None)
    assert model.spec.licence == "CC-BY-4.0"
    pcm = np.random.default_rng(0).normal(0, 0.1, (1, 2, RATE // 2)).astype(np.float32)
    ours, _ = model.run(pcm, [None])
    theirs = get_model("music-hq", repo=folder).models[0].eval()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(pcm)).numpy()
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(ours, expected, atol=1e-5)

    fresh = task.network()
    task.restore(fresh, folder)
    half = {key: value.half() for key, value in run.average.state_dict().items()}
    assert all(torch.equal(value.half(), half[key]) for key, value in fresh.state_dict().items())


def test_music_hq_refuses_other_lengths_and_other_weights(task: MusicHQ, cache: Path, tmp_path: Path) -> None:
    trained, _ = music_bank(cache, cache)
    with pytest.raises(ValueError, match="got mixtures of 13230 and 13230 samples, expected the segment, 22050"):
        MusicHQ(MusicMixer(trained, 0.3), MusicMixer(trained, 0.3), 1, SMALL)
    with pytest.raises(FileNotFoundError, match=r"music-hq\.yaml"):
        task.restore(task.network(), tmp_path)
    task.export(task.network(), tmp_path, {})
    other = MusicHQ(task.mixer, task.mixer, 1, SMALL | {"channels": 8})
    with pytest.raises(ValueError, match=r"channels 4 \(expected 8\)"):
        other.restore(other.network(), tmp_path)


def test_a_lesson_is_in_the_order_of_the_sources_and_at_the_level_nearest_to_the_truth(
    task: MusicHQ, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    one = BandSplitRNN(replace(MUSIC, features=4, hidden=4, narrow=2, bottleneck=4, blocks=1))
    save(one, tmp_path / "one", half=False)
    teachers = Teachers([tmp_path / "one"], SMALL["sources"])
    mixture, stems = (torch.from_numpy(part) for part in task.batch(np.random.default_rng(6), 2))
    lesson = teachers.lesson(mixture)
    heard = one(mixture)
    for place, source in enumerate(SMALL["sources"]):
        torch.testing.assert_close(lesson[:, place], heard[:, MUSIC.sources.index(source)])

    told = torch.stack((0.25 * stems[:, 0], 2 * stems[:, 1], -stems[:, 2], torch.zeros_like(stems[:, 3])), 1)
    right = nearest(told, stems)
    present = stems.square().sum((-1, -2)) > 1e-3
    for place, factor in enumerate((0.5, 1.0, 0.0, 0.0)):  # at most twice as loud; what is wrong is not told
        rows = present[:, place]
        torch.testing.assert_close(right[rows, place], factor * stems[rows, place], atol=1e-4, rtol=1e-4)
    assert present[:, :3].any(0).all()

    batch = tuple(torch.from_numpy(part) for part in task.batch(np.random.default_rng(7), 2))
    network = task.network()
    taught = MusicHQ(task.mixer, task.mixer, 1, SMALL, teachers=teachers, taught=1.0)
    lesson, floors = nearest(teachers.lesson(batch[0]), batch[1]), {"floor": FLOOR}
    wanted = stems_loss(network(batch[0]), lesson, batch[0], **floors).mean()
    torch.testing.assert_close(taught.loss(network, batch, 0.5), wanted)
    plain = task.loss(network, batch, 0.5)
    torch.testing.assert_close(plain, stems_loss(network(batch[0]), batch[1], batch[0], **floors).mean())
    spectral = MusicHQ(task.mixer, task.mixer, 1, SMALL, spectral=2.0).loss(network, batch, 0.5)
    distance = multi_resolution_stft(network(batch[0]), batch[1]).mean()
    torch.testing.assert_close(spectral, plain + 2 * distance)
    assert not pickle.loads(pickle.dumps(taught)).teachers


def test_an_embedded_repository_of_demucs_is_listed(
    task: MusicHQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.export(task.network(), tmp_path / "music-hq", {"steps": "2"})
    monkeypatch.setattr(registry, "EMBEDDED", tmp_path)
    entry = registry.build()["music-hq"]
    assert entry.present(None)
    assert entry.licence == "CC-BY-4.0"
    assert entry.load(("vocals", "no_vocals")).spec.sources == ("vocals", "no_vocals")


def test_speech_may_stay_what_it_was_among_the_voices(tmp_path: Path) -> None:
    import soundfile

    from models.training import sing as singers

    for name in "abcdefghijk":
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", np.random.default_rng(ord(name)).normal(0, 0.1, 24_000), 16_000)
    singers.main(["--data", str(tmp_path), "--cache", str(tmp_path / "cache"), "--plain", "--count", "2"])
    found = tracks(tmp_path / "cache" / "tracks")
    assert {(track.song, track.stem, track.kind) for track in found} == {
        ("spoken000", "vocals", "spoken"),
        ("spoken001", "vocals", "spoken"),
    }
    assert all(track.pcm.shape == (2, 66_150) and track.active.any() for track in found)


def test_rendering_writes_tracks_without_any_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from models.training import render

    if shutil.which("fluidsynth") is None or not SOUNDFONT.is_file():
        pytest.skip("no FluidSynth here")
    words = [
        "--data",
        str(tmp_path),
        "--cache",
        str(tmp_path),
        "--pieces",
        "1",
        "--seconds",
        "2",
        "--kinds",
        "band",
        "club",
    ]
    render.main(words)
    assert json.loads(capsys.readouterr().out) == {"piece": 0, "kinds": ["band"]}
    found = tracks(tmp_path / "tracks")
    assert {(track.kind, track.stem) for track in found} == {("band", stem) for stem in ("bass", "drums", "other")}
    assert all(track.active.any() for track in found)
