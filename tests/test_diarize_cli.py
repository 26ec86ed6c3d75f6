"""Who speaks when on the command line: files in, tables, RTTM and JSON out, and scores."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import sortformer_oracle as oracle
import soundfile
from checkpoints_pyannote import make_diarization
from typer.testing import CliRunner, Result

from models import pyannote_pipeline, sortformer
from server.cli import app
from server.turns_out import options
from streaming import der, rttm, turns
from streaming.framing import Array
from streaming.rttm import Segment

RATE = 16_000


def rivulet(*words: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diarizer of random weights whose outputs come and go."""
    return oracle.save(oracle.make_model(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def talk() -> Array:
    return oracle.voices(12.345, seed=5)


@pytest.fixture(scope="module")
def recording(talk: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talks") / "a talk.wav"
    soundfile.write(path, talk, RATE, subtype="FLOAT")
    return path


def expected(folder: Path, talk: Array, asked: dict[str, object], profile: str | None = None) -> list[Segment]:
    """All at once, by the same model."""
    diarizer = sortformer.load(folder)
    (told,), (state,) = diarizer.run([talk], [diarizer.start(profile)])
    found = turns.whole(options(asked), np.concatenate((told, diarizer.finish(state))))
    return sorted(
        Segment(160 * one.start, min(160 * one.end, len(talk)), f"speaker_{one.speaker + 1}") for one in found
    )


def read(path: Path) -> list[Segment]:
    (segments,) = rttm.read(path.read_text(), RATE).values()
    return segments


def test_a_table_for_people(recording: Path, folder: Path, talk: Array) -> None:
    result = rivulet("diarize", recording, "-m", folder)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    turns_of = [row for row in rows if len(row) == 3 and row[0].count(":") == 2]
    wanted = expected(folder, talk, {})
    assert [row[2] for row in turns_of] == [one.speaker for one in wanted]
    assert turns_of[0][0] == f"0:00:{wanted[0].start / RATE:06.3f}"
    spoken = sum(one.end - one.start for one in wanted if one.speaker == "speaker_1") / RATE
    assert ["speaker_1", f"{spoken:.1f}", "s"] in rows


def test_rttm_and_json_say_the_same(recording: Path, folder: Path, talk: Array, tmp_path: Path) -> None:
    result = rivulet("diarize", recording, "-m", folder, "--rttm", tmp_path / "x.rttm", "--json", tmp_path / "x.json")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    wanted = expected(folder, talk, {})
    assert len(wanted) > 5
    assert len({one.speaker for one in wanted}) > 1
    assert read(tmp_path / "x.rttm") == wanted
    body = json.loads((tmp_path / "x.json").read_text())
    assert body["recording"] == "a talk"
    assert body["turns"][0] == {
        "speaker": wanted[0].speaker,
        "start": wanted[0].start / RATE,
        "end": wanted[0].end / RATE,
    }
    assert (tmp_path / "x.rttm").read_text().startswith("SPEAKER a_talk 1 ")


def test_options_of_turns_and_profile(recording: Path, folder: Path, talk: Array, tmp_path: Path) -> None:
    out = tmp_path / "x.rttm"
    words = ["--min-duration", "0.03", "--gap", "0.01", "--onset", "0.7", "--offset", "0.2", "--exclude-overlaps"]
    result = rivulet("diarize", recording, "-m", folder, "--rttm", out, "--profile", "0.32s", *words)
    assert result.exit_code == 0, result.output
    asked = {"min_duration_s": 0.03, "gap_threshold_s": 0.01, "onset": 0.7, "offset": 0.2, "exclude_overlaps": True}
    assert read(out) == expected(folder, talk, asked, "0.32s")
    assert len(read(out)) > 5
    assert read(out) != expected(folder, talk, asked, None)
    assert read(out) != expected(folder, talk, {}, "0.32s")


def test_at_most_so_many_people(recording: Path, folder: Path, talk: Array) -> None:
    result = rivulet("diarize", recording, "-m", folder, "--rttm", "-", "--max-speakers", "2")
    (found,) = rttm.read(result.stdout, RATE).values()
    assert found == [one for one in expected(folder, talk, {}) if one.speaker in ("speaker_1", "speaker_2")]


@pytest.mark.parametrize(
    ("extension", "rate", "channels"), [("flac", 16_000, 2), ("ogg", 48_000, 1), ("mp3", 44_100, 2)]
)
def test_any_format_and_any_rate(
    extension: str, rate: int, channels: int, recording: Path, folder: Path, talk: Array, tmp_path: Path
) -> None:
    """A lossy file of a network of random weights: much alike, not the same."""
    there = np.arange(len(talk) * rate // RATE) * (RATE / rate)
    pcm = np.interp(there, np.arange(len(talk)), talk)
    path = tmp_path / f"talk.{extension}"
    soundfile.write(path, np.stack([pcm] * channels, 1), rate)
    result = rivulet("diarize", "-", "-m", folder, "--rttm", "-", "--no-progress", stdin=path.read_bytes())
    assert result.exit_code == 0, result.output
    ((name, found),) = rttm.read(result.stdout, RATE).items()
    assert name == "stdin"
    close = 0.02 if extension == "flac" else 0.5
    assert der.score(expected(folder, talk, {}), found).rate < close


def test_silence_is_nobody(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    result = rivulet("diarize", tmp_path / "empty.wav", "-m", folder)
    assert (result.exit_code, result.stdout.strip()) == (0, "nobody speaks")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "5s"], "got profile '5s', expected one of"),
        (["--max-speakers", "5"], "tells 1 to 4 apart"),
        (["--onset", "0.2", "--offset", "0.3"], "got onset 0.2 and offset 0.3"),
        (["--min-duration", "-1"], "got min_duration"),
        (["--backend", "pyannote", "--onset", "0.4"], "--backend pyannote decides by itself"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], said: str, recording: Path, folder: Path) -> None:
    result = rivulet("diarize", recording, "-m", folder, *words)
    assert result.exit_code == 2
    assert said in result.output


def test_no_such_model_and_no_such_file(recording: Path, folder: Path, tmp_path: Path) -> None:
    assert "nowhere" in rivulet("diarize", recording, "-m", tmp_path / "nowhere").output
    assert "cannot be decoded" in rivulet("diarize", tmp_path / "none.wav", "-m", folder).output
    needs = rivulet("diarize", recording, "--backend", "pyannote")
    assert (needs.exit_code, "needs -m FOLDER" in needs.output) == (2, True)


# --- pyannote


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of random weights."""
    pytest.importorskip("pyannote.audio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_diarization(tmp_path_factory.mktemp("pipelines") / "pipeline")


@pytest.fixture(scope="module")
def short(talk: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talks") / "short.wav"
    soundfile.write(path, talk[: 4 * RATE], RATE, subtype="FLOAT")
    return path


def test_the_other_backend_hears_the_whole_recording(pipeline: Path, short: Path, talk: Array) -> None:
    result = rivulet("diarize", short, "--backend", "pyannote", "-m", pipeline, "--rttm", "-", "--exclude-overlaps")
    assert result.exit_code == 0, result.output
    (found,) = rttm.read(result.stdout, RATE).values()
    wanted = pyannote_pipeline.diarize(pipeline, talk[: 4 * RATE], RATE, exclusive=True)
    assert len(wanted) > 3
    for got, one in zip(found, wanted, strict=True):
        assert got.speaker == f"speaker_{one.speaker + 1}"
        assert abs(got.start - one.start) <= RATE / 1000
        assert abs(got.end - one.end) <= RATE / 1000


def test_a_second_opinion_keeps_the_numbers_that_people_had(
    pipeline: Path, short: Path, talk: Array, tmp_path: Path
) -> None:
    offline = pyannote_pipeline.diarize(pipeline, talk[: 4 * RATE], RATE)
    most = max(one.speaker for one in offline)
    assert most > 0
    live = [Segment(one.start, one.end, f"speaker_{most + 1 - one.speaker}") for one in offline]  # the other way round
    (tmp_path / "live.rttm").write_text(rttm.write(live, RATE, "meeting"))
    result = rivulet("refine", short, tmp_path / "live.rttm", "-m", pipeline, "--rttm", tmp_path / "better.rttm")
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "better.rttm") == read(tmp_path / "live.rttm")
    assert "% of what was said was told otherwise live" in result.output
    assert float(result.output.split()[0]) < 1
    assert (tmp_path / "better.rttm").read_text().startswith("SPEAKER meeting 1 ")


# --- scores


def test_scores_by_recording_and_of_all(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.rttm", tmp_path / "hyp.rttm"
    second = RATE
    one, other = (
        [Segment(0, 10 * second, "ada")],
        [Segment(0, 4 * second, "bob"), Segment(4 * second, 10 * second, "eve")],
    )
    reference.write_text(rttm.write(one, RATE, "x") + rttm.write(other, RATE, "y"))
    hypothesis.write_text(
        rttm.write([Segment(0, 9 * second, "speaker_1"), Segment(9 * second, 12 * second, "speaker_2")], RATE, "x")
        + rttm.write([Segment(0, 10 * second, "speaker_1")], RATE, "y")
    )
    result = rivulet("score", reference, hypothesis)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()}
    assert rows["x"] == ["30.00%", "0.00%", "20.00%", "10.00%", "10.0s"]
    assert rows["y"] == ["40.00%", "0.00%", "0.00%", "40.00%", "10.0s"]
    assert rows["TOTAL"] == ["35.00%", "0.00%", "10.00%", "25.00%", "20.0s"]


def test_of_one_recording_each_the_names_need_not_agree_and_json_will_do(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.rttm", tmp_path / "hyp.json"
    reference.write_text(rttm.write([Segment(0, RATE, "ada")], RATE, "x"))
    hypothesis.write_text(rttm.write_json([Segment(0, RATE // 2, "0")], RATE, "z"))
    assert "50.00%" in rivulet("score", reference, hypothesis).output
    hypothesis.write_text(
        rttm.write([Segment(0, RATE, "a")], RATE, "y") + rttm.write([Segment(0, RATE, "a")], RATE, "z")
    )
    assert "got recording 'y', the reference has x" in rivulet("score", reference, hypothesis).output
    hypothesis.write_text("SPEAKER x\n")
    assert "hyp.json: line 1: got 2 fields" in rivulet("score", reference, hypothesis).output
