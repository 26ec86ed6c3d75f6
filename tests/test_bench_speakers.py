"""The swap-rate benchmark: conversations are as asked, scores are right where the answer is known, and it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clients.bench import speakers
from clients.bench.speakers_score import BLOCK, SILENT, TORN, own_tracks, places, score, si_sdr, summary
from clients.bench.speakers_talk import (
    FRAME,
    RATE,
    Recipe,
    Speech,
    cached,
    conversation,
    numbered,
    read,
    speaking,
    write,
)
from streaming.framing import Array

SPLIT = Path(__file__).parent.parent / "models" / "training" / "split.json"


def voice(seed: int, seconds: float = 30) -> Array:
    """Noise in syllables and pauses, with a pitch of its own: `[T]`, loud enough for 16 bits."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pulse = np.sin(2 * np.pi * (90 + 30 * seed) * time) ** 9 + 0.1 * rng.standard_normal(len(time))
    return np.asarray(0.3 * pulse * (0.01 + (np.sin(2 * np.pi * 0.9 * time + seed) > -0.9)), np.float32)


@pytest.fixture(scope="module")
def speech() -> Speech:
    rows = [(voice(seed) * 32767).astype(np.int16) for seed in range(5)]
    return Speech(tuple("abcde"), tuple((row,) for row in rows))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoded cache with three held-out speakers and one that is trained on."""
    folder = tmp_path_factory.mktemp("cache")
    names = [*json.loads(SPLIT.read_text())["speech"]["validation"][:3], "somebody-else"]
    rows = [(voice(seed, 12) * 32767).astype(np.int16) for seed in range(4)]
    np.save(folder / "speech.npy", np.concatenate(rows))
    index = [(name, number * len(rows[0]), len(rows[0])) for number, name in enumerate(names)]
    (folder / "speech.json").write_text(json.dumps(index))
    return folder


# --- conversations ---


@pytest.mark.parametrize("people", [2, 3, 4])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.6])
def test_a_conversation_is_as_asked(speech: Speech, people: int, overlap: float) -> None:
    rng = np.random.default_rng((people, round(10 * overlap)))
    voices = conversation(speech, Recipe(people, 90, (0.5, 3.0), overlap), rng)
    assert voices.shape == (people, 90 * RATE)
    assert np.abs(voices.sum(0)).max() == pytest.approx(0.5, abs=1e-3)
    sounding = voices.reshape(people, -1, FRAME).any(2).sum(0)
    assert sounding.max() <= 2
    assert (sounding == 2).sum() / (sounding > 0).sum() == pytest.approx(overlap, abs=0.12)
    first = (voices != 0).argmax(1)
    assert (np.diff(first) > 0).all()


def test_silences_between_turns_are_as_asked(speech: Speech) -> None:
    voices = conversation(speech, Recipe(2, 120, (1.0, 4.0), 0.0), np.random.default_rng(0))
    quiet = np.diff(np.flatnonzero(voices.reshape(2, -1, FRAME).any((0, 2)))) * FRAME / RATE
    turns = quiet[quiet > 0.9]
    assert len(turns) > 8
    assert turns.max() < 4.1


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for wrong in ({"people": 1}, {"overlap": 0.9}, {"silence": (2.0, 1.0)}, {"seconds": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            Recipe(**wrong)
    with pytest.raises(FileNotFoundError, match="make train"):
        cached(tmp_path, SPLIT)


def test_only_held_out_speakers_talk(cache: Path) -> None:
    found = cached(cache, SPLIT)
    assert len(found.names) == 3
    assert "somebody-else" not in found.names


def test_files_hold_what_was_said(speech: Speech, tmp_path: Path) -> None:
    voices = conversation(speech, Recipe(3, 10, (0.5, 1.0), 0.2), np.random.default_rng(1))
    write(tmp_path / "000", voices)
    paths = numbered(tmp_path / "000", "person")
    assert len(paths) == len(voices)
    np.testing.assert_allclose(read(paths), voices, atol=1e-4)
    np.testing.assert_allclose(read([tmp_path / "000" / "mixture.wav"])[0], voices.sum(0), atol=1e-4)


# --- scores ---


@pytest.fixture(scope="module")
def talk(speech: Speech) -> Array:
    return conversation(speech, Recipe(2, 60, (0.5, 2.0), 0.3), np.random.default_rng(3))


def test_right_tracks_in_any_order_score_nothing(talk: Array) -> None:
    for tracks in (talk, talk[::-1], np.concatenate((talk[::-1], np.zeros_like(talk)))):
        told = score(talk, tracks + np.float32(0.05) * talk.sum(0))
        assert (told.swapped_s, told.torn_s, told.swaps) == (0, 0, 0)
        assert told.error_s / told.scored_s < 0.15  # the edges of turns
        assert min(told.si_sdr) > 20
        assert min(told.gain) > 15


def test_a_swap_counts_for_as_long_as_it_lasts(talk: Array) -> None:
    turned = talk.copy()
    at = 40 * RATE
    turned[:, at:] = talk[::-1, at:]
    told = score(talk, turned)
    active = np.stack([speaking(row) for row in talk])
    expected = active[:, at // FRAME :].sum() * FRAME / RATE
    assert told.swapped_s == pytest.approx(expected, abs=1.0)
    assert told.swaps == 2  # once each
    assert told.own == (0, 1)
    assert summary([told])["swap_rate"] == pytest.approx(expected / told.speech_s, abs=0.02)
    assert told.error_s / told.scored_s > 0.2


def test_a_torn_voice_is_not_swapped(talk: Array) -> None:
    told = score(talk, np.stack((talk.sum(0), talk.sum(0))))
    assert told.torn_s == pytest.approx(told.speech_s)
    assert told.swapped_s == 0
    assert max(abs(gain) for gain in told.gain) < 1e-3


def test_more_people_than_tracks_share(speech: Speech) -> None:
    talk = conversation(speech, Recipe(3, 60, (0.5, 2.0), 0.0), np.random.default_rng(4))
    told = score(talk, np.stack((talk[0] + talk[2], talk[1])))
    assert (told.own, told.swapped_s) == ((0, 1, 0), 0)
    assert np.isnan(told.error_s)
    assert np.isnan(summary([told])["der"])
    assert np.isnan(told.gain).all()  # nobody ever speaks with another


def test_places_and_silence(talk: Array) -> None:
    active = np.stack([speaking(row) for row in talk])
    found = places(talk, talk * np.float32(0.01), active)
    blocks = active[:, : found.shape[1] * BLOCK].reshape(2, -1, BLOCK).any(2)
    assert ((found == SILENT) == ~blocks).all()
    assert not (found == TORN).any()
    assert own_tracks(found, blocks.astype(float), 2) == (0, 1)


def test_si_sdr_is_what_it_is_called() -> None:
    rng = np.random.default_rng(0)
    target, noise = rng.standard_normal((2, 40000)).astype(np.float32)
    noise = noise - target * (noise @ target) / (target @ target)
    noise *= np.linalg.norm(target) / np.linalg.norm(noise)
    assert si_sdr(3 * (target + np.float32(0.1) * noise), target) == pytest.approx(20, abs=0.01)


# --- a run ---


def test_it_runs(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, table, png = tmp_path / "out", tmp_path / "out.json", tmp_path / "out.png"
    words = ["--people", "2", "--overlap", "0", "0.3", "--seconds", "12", "--silence", "2", "4", "--model", "oracle"]
    words += ["--settings", "none", "overlap", "best", "--cache", cache, "--out", out, "--json", table, "--plot", png]
    assert speakers.main([str(word) for word in words]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "oracle/overlap" in said
    rows = {row["name"]: row for row in json.loads(table.read_text())["rows"]}
    assert list(rows) == ["oracle/none", "oracle/overlap", "oracle/best"]
    assert rows["oracle/best"]["swap_rate"] < 0.02
    assert rows["oracle/none"]["swap_rate"] + rows["oracle/none"]["torn_rate"] > 0.2
    assert list(rows["oracle/best"]["kinds"]) == ["2 people", "0 % overlap", "30 % overlap"]
    assert png.read_bytes().startswith(b"\x89PNG")
    again = score(
        read(numbered(out / "000", "person")), read(numbered(out / "000" / "tracks" / "oracle" / "best", "track"))
    )
    assert again.figures()["swapped_s"] == rows["oracle/best"]["conversations"][0]["swapped_s"]
    (out / "000" / "tracks" / "other").mkdir()  # tracks of some other product, scored beside ours
    for number, row in enumerate(read(numbered(out / "000", "person")), 1):
        import soundfile

        soundfile.write(out / "000" / "tracks" / "other" / f"track_{number}.wav", row, RATE)
    assert speakers.main(["--score", str(out)]) == 0
    assert "other" in capsys.readouterr().out


def test_what_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert speakers.main(["--cache", str(tmp_path)]) == 1
    assert "make train" in capsys.readouterr().err
    assert speakers.main(["--score", str(tmp_path)]) == 1
    assert "no tracks" in capsys.readouterr().err
