"""The `rivulet` command on real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serving
import soundfile
import zoo
from checkpoints_convtasnet import tiny_checkpoint
from typer.testing import CliRunner, Result

from models import registry
from server.cli import app

LENGTH = 20_011


def rivulet(*words: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny.pth")


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("songs") / "song.flac"
    soundfile.write(path, zoo.audio(2, LENGTH).T, 44_100)
    return path


def test_every_source_becomes_a_file_as_long_as_the_song(song: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = rivulet("separate", song, "-m", checkpoint, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"{LENGTH} samples a stem" in result.output
    spec = registry.from_path("tiny", checkpoint).load(None).spec
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{source}.wav" for source in spec.sources)
    for path in tmp_path.iterdir():
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.channels) == (LENGTH, 44_100, 1)


def test_music_splits_a_song_into_stems_that_add_up_to_it(song: Path, tmp_path: Path) -> None:
    result = rivulet("separate", song, "-o", tmp_path, "--float32")
    assert result.exit_code == 0, result.output
    stems = {path.stem: soundfile.read(path)[0] for path in tmp_path.iterdir()}
    assert set(stems) == {"vocals", "drums", "bass", "other"}
    mix = soundfile.read(song)[0]
    assert np.abs(sum(stems.values()) - mix).max() < 1e-3


def test_two_stems_is_karaoke(song: Path, tmp_path: Path) -> None:
    result = rivulet("separate", song, "--two-stems", "vocals", "-o", tmp_path, "--flac")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no_vocals.flac", "vocals.flac"]
    both = sum(soundfile.read(path)[0] for path in tmp_path.iterdir())
    assert np.abs(both - soundfile.read(song)[0]).max() < 1e-3


@pytest.mark.parametrize("extension", ["mp3", "ogg", "wav"])
def test_any_format_and_any_rate(extension: str, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / f"in.{extension}"
    soundfile.write(path, zoo.audio(1, 12_000).T, 22_050)
    result = rivulet("separate", path, "-m", checkpoint, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    frames = {soundfile.info(out).frames for out in (tmp_path / "out").iterdir()}
    assert len(frames) == 1
    assert abs(frames.pop() - soundfile.info(path).frames) <= (1152 if extension == "mp3" else 0)


def test_standard_input(song: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = rivulet("separate", "-", "-m", checkpoint, "-o", tmp_path, stdin=song.read_bytes())
    assert result.exit_code == 0, result.output
    assert {soundfile.info(path).frames for path in tmp_path.iterdir()} == {LENGTH}


def test_an_empty_recording_gives_empty_stems(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros((0, 1)), 16_000)
    result = rivulet("separate", path, "-m", checkpoint, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {soundfile.info(out).frames for out in (tmp_path / "out").iterdir()} == {0}


@pytest.fixture(scope="module")
def host(checkpoint: Path) -> Iterator[str]:
    entry = registry.from_path("tiny", checkpoint)
    with serving.running({"tiny": entry}) as host:
        yield host


def test_through_a_server_it_is_the_same(host: str, song: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert rivulet("separate", song, "-m", checkpoint, "-o", tmp_path / "here", "--float32").exit_code == 0
    there = rivulet(
        "separate",
        song,
        "-m",
        "tiny",
        "-o",
        tmp_path / "there",
        "--float32",
        "--server",
        f"ws://{host}",
        "--no-progress",
    )
    assert there.exit_code == 0, there.output
    for path in (tmp_path / "here").iterdir():
        np.testing.assert_allclose(
            soundfile.read(path)[0], soundfile.read(tmp_path / "there" / path.name)[0], atol=1e-5
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["separate", "nothing.wav"], "got nothing.wav, which cannot be decoded"),
        (["separate", __file__], "which cannot be decoded"),
        (
            ["separate", "SONG", "-m", "nope"],
            "got model 'nope', which is neither a path nor one of music, music-hq, speech",
        ),
        (["separate", "SONG", "-m", __file__], "expected a folder with model.safetensors"),
        (["separate", "SONG", "--stems", "piano"], "got stem 'piano', this model has"),
        (["separate", "SONG", "--latency", "1"], "got latency_ms 1, the smallest possible here for music is"),
        (["separate", "SONG", "--stems", "bass", "--two-stems", "bass"], "expected one of them"),
        (["separate", "SONG", "--server", "ws://127.0.0.1:9"], "127.0.0.1:9"),
        (["serve", "--model", "mine"], "got --model 'mine', expected NAME=PATH"),
        (["models", "pull", "nope"], "got model 'nope'"),
    ],
)
def test_mistakes_are_told(words: list[str], said: str, song: Path, tmp_path: Path) -> None:
    result = rivulet(*(song if word == "SONG" else word for word in words))
    assert result.exit_code == 2
    assert said in result.output


def test_models_are_listed_and_verified() -> None:
    listed = rivulet("models", "list").output
    for name in ("music", "music-hq", "speech", "htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi"):
        assert name in listed
    assert rivulet("models", "verify", "music").output.startswith("music: vocals, drums, bass, other at 44100 Hz")


def test_doctor_looks_at_the_machine() -> None:
    result = rivulet("doctor")
    assert result.exit_code == 0, result.output
    assert "seconds of computing a second of audio" in result.output
